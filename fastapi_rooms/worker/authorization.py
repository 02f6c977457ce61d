"""The handlers that are asked before a socket joins a room.

Names are opaque and may hold any character, so a pattern has one special character only, a `*` at
its very end. Doubt refuses: a handler that raises, or returns nothing, denies the join.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from starlette.websockets import WebSocketDisconnect

from fastapi_rooms.concurrency import FAULTS
from fastapi_rooms.errors import ClientError, JoinRefused
from fastapi_rooms.types import Room
from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")

AuthorizeHandler = TypeVar(
    "AuthorizeHandler", bound=Callable[[Socket, Room], bool | Awaitable[bool]]
)
"""A handler: `(socket, room) -> bool`, plain or async."""


def matches(pattern: str, room: Room) -> bool:
    """Whether a pattern is the room's name, or the beginning of it followed by a `*`."""
    if pattern.endswith("*"):
        return room.startswith(pattern[:-1])
    return room == pattern


class Authorization:
    """The handlers of one namespace, in the order of their registration."""

    def __init__(self) -> None:
        self._handlers: list[tuple[str, Callable[[Socket, Room], bool | Awaitable[bool]]]] = []

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, pattern: str, handler: Callable[[Socket, Room], bool | Awaitable[bool]]) -> None:
        """Have `handler` asked about the rooms that `pattern` matches."""
        self._handlers.append((pattern, handler))

    async def authorize(self, socket: Socket, rooms: Iterable[Room]) -> None:
        """Return if every handler lets the socket into every room, else raise `JoinRefused`."""
        for room in rooms:
            for pattern, handler in self._handlers:
                if matches(pattern, room) and not await self._allows(handler, socket, room):
                    raise JoinRefused(room)

    @staticmethod
    async def _allows(
        handler: Callable[[Socket, Room], bool | Awaitable[bool]], socket: Socket, room: Room
    ) -> bool:
        try:
            answer = handler(socket, room)
            return bool(await answer if inspect.isawaitable(answer) else answer)
        except (ClientError, WebSocketDisconnect):
            raise  # it has its own way to say no, or found that the client is gone
        except FAULTS:
            logger.exception("Whether %s may join %r could not be found out: refused", socket, room)
            return False
