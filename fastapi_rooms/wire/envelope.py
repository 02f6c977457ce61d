"""What travels between workers, before it is encoded."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.types import NodeId


class Broadcast(NamedTuple):
    """One broadcast as other workers get it."""

    origin: NodeId
    """The worker that sends it, so that it can tell its own echo."""

    sequence: int
    """Rises with every broadcast of `origin`: what arrives again has been seen."""

    namespace: str
    target: Target
    payload: Payload
    volatile: bool = False


class Request(NamedTuple):
    """One worker asks others to do, or to say, something."""

    origin: NodeId
    sequence: int
    namespace: str
    target: Target
    """The sockets it is about."""

    id: int
    """Drawn at random, for the replies to name; 0 when no reply is wanted."""

    verb: str
    """What is asked: a `Verb`, or one that only a newer version knows."""

    arguments: dict[str, Any]
    """What the verb needs, as JSON values. Untrusted until the verb has checked it."""


class Reply(NamedTuple):
    """A piece of what a worker answers to a request."""

    origin: NodeId
    sequence: int
    request: int
    """The id of the request."""

    piece: int
    """The number of this piece, from 0; they arrive in order."""

    last: bool
    refused: bool
    """Whether the data is the reason, as text, why the request was not carried out."""

    data: bytes
    """The pieces together are the response, as JSON."""

    unsupported: bool = False
    """Whether it was refused because this worker's version does not know the verb."""


class HeartbeatKind(Enum):
    """What a worker tells the others with a heartbeat."""

    HELLO = 0
    """I am new, or was out of reach: answer with ALIVE."""
    ALIVE = 1
    """Expect my next heartbeat after the interval."""
    BYE = 2
    """I am leaving."""
    QUERY = 3
    """Answer with ALIVE; I am no worker, do not count me."""


class Heartbeat(NamedTuple):
    """A sign of life."""

    origin: NodeId
    sequence: int
    kind: HeartbeatKind
    interval: float
    """Seconds until the next one; a worker that misses several is taken for dead."""


Envelope: TypeAlias = Broadcast | Request | Reply | Heartbeat
