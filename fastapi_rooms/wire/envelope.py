"""What travels between workers: to whom, and what."""

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
    """Drawn at random for the replies to name; 0 when none are wanted."""

    verb: str
    """What is asked: one of `fastapi_rooms.cluster.commands`, or a newer version's word."""

    arguments: dict[str, Any]
    """What the verb needs, as JSON has it. Untrusted until the verb has looked at it."""


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
    """Whether the answer is the reason, as text, why there is none."""

    data: bytes
    """The pieces together are the answer, in JSON."""


class HeartbeatKind(Enum):
    """What a worker lets the others know of itself."""

    HELLO = 0
    """I am new, or was out of reach: who else is there?"""
    ALIVE = 1
    """Expect the next sign of me after the interval."""
    BYE = 2
    """I am leaving."""
    QUERY = 3
    """Who is there? I am only looking: do not count me."""


class Heartbeat(NamedTuple):
    """A sign of life."""

    origin: NodeId
    sequence: int
    sign: HeartbeatKind
    interval: float
    """Seconds until the next; a worker that misses several is taken for dead."""


Message: TypeAlias = Broadcast | Request | Reply | Heartbeat
