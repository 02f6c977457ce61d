"""Workers of one application in this process, its users, and what its handlers were told."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from starlette.websockets import WebSocket

from fastapi_rooms import Presence, PresenceEvent, RoomManager, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.support import app_of

ROOM = "chat-tea"
GRACE = 0.3
HEARTBEAT = 0.5


class Member(WebSocketClient):
    """A user in a tab, who is in a room."""

    def __init__(
        self, rooms: RoomManager, name: str | None, room: str, *, expects_to_join: bool
    ) -> None:
        self._rooms, self._name, self._room = rooms, name, room
        self._expects_to_join = expects_to_join
        self.socket: Socket | None = None
        super().__init__(app_of(self._endpoint))

    async def _endpoint(self, websocket: WebSocket) -> None:
        data = {} if self._name is None else {"name": self._name}
        async with self._rooms.connect(websocket, data=data) as socket:
            await socket.join(self._room)
            self.socket = socket
            await socket.wait_closed()

    async def open(self, timeout: float = 10.0) -> None:
        await super().open(timeout)
        if self._expects_to_join:
            await eventually(lambda: self.socket is not None)


class Workers:
    """Workers of one application. Leases last for two seconds, and graces are short.

    Args:
        adapters: what each of them is given.
        grace: seconds.
        **settings: those of each manager.
    """

    def __init__(self, adapters: Sequence[Any], grace: float = GRACE, **settings: Any) -> None:
        self.told: list[list[str]] = []
        """By worker."""
        self.told_one: list[str] = []
        """What the handlers were told that are for one worker of all."""
        self.managers: list[RoomManager] = []
        self.presences: list[Presence] = []
        self._stack = AsyncExitStack()
        for adapter in adapters:
            rooms = RoomManager(adapter, heartbeat=HEARTBEAT, **settings)
            presence = rooms.presence("chat-*", user="name", grace=grace)
            self._register(presence)
            self.managers.append(rooms)
            self.presences.append(presence)

    def _register(self, presence: Presence) -> None:
        told: list[str] = []
        self.told.append(told)

        @presence.on("join")
        @presence.on("leave")
        def tell(event: PresenceEvent) -> None:
            told.append(f"{event.kind} {event.user}")

        @presence.on("join", one_worker=True)
        @presence.on("leave", one_worker=True)
        async def tell_one(event: PresenceEvent) -> None:
            self.told_one.append(f"{event.kind} {event.user}")

    async def __aenter__(self) -> Self:
        for rooms in self.managers:
            await self._stack.enter_async_context(rooms)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop all of them."""
        await self._stack.aclose()

    def member(
        self, worker: int, name: str | None, room: str = ROOM, *, expects_to_join: bool = True
    ) -> Member:
        """A user who is about to come to a worker."""
        return Member(self.managers[worker], name, room, expects_to_join=expects_to_join)

    async def stop_lease(self, worker: int) -> None:
        """Have a worker renew its lease no more: to the others it is dead."""
        keeper = self.managers[worker]._runtime.presence.running
        await keeper._tasks.cancel(1)

    def start_lease(self, worker: int) -> None:
        """Have it go on."""
        self.managers[worker]._runtime.presence.running.start()
