"""What operators hand on: messages for a target, and requests with readers of the responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire.verbs import Verb

T = TypeVar("T")
Part = TypeVar("Part")


class ClusterRequest(NamedTuple):
    """What is asked of the workers."""

    verb: Verb
    target: Target
    """The sockets it is about."""
    arguments: Mapping[str, Any]
    """What the verb needs, as JSON values."""
    here: bool = True
    """Whether this worker is asked, too."""
    elsewhere: bool = True
    """Whether the other workers are asked."""
    node: NodeId | None = None
    """The one worker that is asked, if it is not all of them."""


class ResponseReader(NamedTuple, Generic[Part, T]):
    """How to read the workers' responses to a request, and what to make of them together."""

    read: Callable[[NodeId, Any], Part]
    """Reads one worker's response, parsed from JSON. May raise anything: that counts as a refusal
    of that worker."""
    merge: Callable[[list[Part]], T]
    """Makes one result of all that was read."""
    in_parts: bool = False
    """Whether a response is a list, which can be read in slices."""


class Dispatcher(Protocol):
    """All that operators need of a namespace: see `worker.local_namespace.LocalNamespace`."""

    @property
    def json(self) -> JsonCodec:
        """How values become JSON."""

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        """Send a message to the target's sockets: on this worker only if `local`, else on all."""

    async def emit(
        self, target: Target, event: str, args: tuple[Any, ...], *, local: bool, volatile: bool
    ) -> None:
        """Send an event to the target's sockets, and to Socket.IO's clients unless `local`."""

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Have workers carry out a request, and return what the reader makes of the responses."""
