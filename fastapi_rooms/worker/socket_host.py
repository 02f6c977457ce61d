"""What a socket needs of the namespace that it is in."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Protocol

from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.operators.dispatcher import Dispatcher
from fastapi_rooms.types import Room
from fastapi_rooms.worker.resume import Joined, Resume

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace
    from fastapi_rooms.worker.socket import Socket


class SocketHost(Dispatcher, Protocol):
    """All that a socket needs of its namespace: see `worker.local_namespace.LocalNamespace`."""

    name: str

    @property
    def namespace(self) -> Namespace:
        """What users have of it."""

    @property
    def json(self) -> JsonCodec:
        """How values become JSON, and JSON values."""

    def is_in(self, socket: Socket) -> bool:
        """Whether the socket has not left, and is not about to be closed."""

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms the socket is in."""

    def position_of(self, room: Room) -> str | None:
        """Up to where this worker has delivered what was sent to a room with a history."""

    async def join(self, socket: Socket, rooms: tuple[Room, ...], resume: Resume) -> Joined:
        """Put the socket into rooms, if it may, once the adapter has confirmed them."""

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take the socket out of rooms."""

    async def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        """Take the socket out of every room, and close it behind what was sent before."""

    def lost(self, socket: Socket) -> None:
        """The socket has read that its client is gone."""
