"""What workers send each other, before it is encoded."""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.types import NodeId


class Broadcast(NamedTuple):
    """A message to the sockets of other workers."""

    origin: NodeId
    """The node id of the sender, which recognizes its own messages by it."""

    sequence: int
    """Rises with every envelope of `origin`, so that receivers recognize repetitions."""

    namespace: str
    target: Target
    payload: Payload
    volatile: bool = False


class Request(NamedTuple):
    """One worker asks others to do something, or for information."""

    origin: NodeId
    sequence: int
    namespace: str
    target: Target
    """The sockets that the verb applies to."""

    id: int
    """A random number that replies refer to; 0 if no reply is wanted."""

    verb: str
    """A `Verb`, or a name that only a newer version knows."""

    arguments: dict[str, Any]
    """JSON values. Untrusted: the handler of the verb has to validate them."""


class Reply(NamedTuple):
    """A worker's reply to a request, or a piece of it, as long replies are split."""

    origin: NodeId
    sequence: int
    request: int
    """The `id` of the request."""

    piece: int
    """The number of this piece, from 0; pieces arrive in order."""

    last: bool
    """Whether this is the last piece."""

    refused: bool
    """Whether the request was not carried out; the data is then the reason, as text."""

    data: bytes
    """This piece's part of the response, which is JSON."""

    unsupported: bool = False
    """Whether it was refused because the sender's version does not know the verb."""


class HeartbeatKind(Enum):
    """The meaning of a heartbeat."""

    HELLO = 0
    """The sender started, or reconnected; others answer with ALIVE."""
    ALIVE = 1
    """The sender runs; its next heartbeat follows after the interval."""
    BYE = 2
    """The sender stops; it is no longer one of the workers."""
    QUERY = 3
    """Others answer with ALIVE; the sender does not become one of the workers by it."""


class Heartbeat(NamedTuple):
    """What a worker sends at intervals, so that the others know that it runs."""

    origin: NodeId
    sequence: int
    kind: HeartbeatKind
    interval: float
    """Seconds until the next one. A worker that misses several is considered dead."""


Envelope: TypeAlias = Broadcast | Request | Reply | Heartbeat
