"""Several workers in one process, and members of their rooms, for the tests of an application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import Adapter, MemoryAdapter, MemoryBus, Namespace, RoomManager, Socket
from fastapi_rooms.testing.client import WebSocketClient
from fastapi_rooms.testing.waiting import TIMEOUT


class Member(WebSocketClient):
    """A client that is in some rooms, for the time of an `async with` block.

        async with Member(rooms, "lobby") as ann, Member(rooms, "lobby") as bob:
            await ann.socket.to("lobby").send_text("hello")
            assert await bob.receive_text() == "hello"

    Its endpoint joins the rooms and waits for the client to go; what the client sends is ignored.

    Args:
        namespace: a manager, or one of its namespaces.
        rooms: what to join.
        sid: an id of your own choice.
        data: what to know the socket by.

    Raises:
        WebSocketDisconnect: the socket was turned away, with 1013 when the adapter is unavailable.
    """

    def __init__(
        self,
        namespace: Namespace,
        *rooms: str,
        sid: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(Starlette(routes=[WebSocketRoute("/", self._endpoint)]))
        self._namespace = namespace
        self._rooms = rooms
        self._sid = sid
        self._data = data
        self._socket: Socket | None = None

    @property
    def socket(self) -> Socket:
        """What an endpoint has of this client: join, leave and send with it."""
        assert self._socket is not None, "the member is not in yet"
        return self._socket

    @property
    def sid(self) -> str:
        """The socket's id."""
        return self.socket.sid

    async def open(self, timeout: float = TIMEOUT) -> None:
        """Connect, and return when the rooms are joined."""
        await super().open(timeout)
        try:
            await self._until(lambda: self._socket is not None, timeout, "its rooms")
        except BaseException:
            await self.close()
            raise

    async def _endpoint(self, websocket: WebSocket) -> None:
        async with self._namespace.connect(websocket, sid=self._sid, data=self._data) as socket:
            await socket.join(*self._rooms)
            self._socket = socket
            self._changed.set()
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass


class Cluster:
    """Started managers that hear each other as workers do, for the time of an `async with` block.

        async with Cluster(workers=2) as cluster:
            one, two = cluster
            ann = await cluster.member(one, "lobby")
            bob = await cluster.member(two, "lobby")
            await ann.socket.to("lobby").send_text("hello")
            assert await bob.receive_text() == "hello"

    An application that is made by a function can have all of its endpoints tested so:

        async with Cluster(workers=2) as (one, two):
            async with (
                WebSocketClient(create_app(rooms=one), "/chat/lobby") as ann,
                WebSocketClient(create_app(rooms=two), "/chat/lobby") as bob,
            ):
                await ann.send_text("hello")
                assert await bob.receive_text() == "hello"

    With pytest, make it a fixture: `async with Cluster(workers=2) as cluster: yield cluster`.

    Args:
        workers: how many.
        adapter: makes one worker's adapter; in memory, on a bus of their own, when left out.
            `lambda: RedisAdapter(server.url)` has them meet in Redis.
        settings: what else `RoomManager` takes: `outbox`, `linger`, …
    """

    def __init__(
        self, workers: int = 2, *, adapter: Callable[[], Adapter] | None = None, **settings: Any
    ) -> None:
        bus = MemoryBus()
        make = adapter or (lambda: MemoryAdapter(bus))
        self.workers = [RoomManager(make(), **settings) for _ in range(workers)]
        self._managers = AsyncExitStack()
        self._members: list[Member] = []

    def __iter__(self) -> Iterator[RoomManager]:
        return iter(self.workers)

    def __getitem__(self, number: int) -> RoomManager:
        return self.workers[number]

    def __len__(self) -> int:
        return len(self.workers)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as managers:
            for worker in self.workers:
                await managers.enter_async_context(worker)
            self._managers = managers.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the members go, then close the managers."""
        async with self._managers:
            members, self._members = self._members, []
            for member in members:
                member.leave()
            ends = [member.close() for member in members]
            results = await asyncio.gather(*ends, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def member(
        self,
        worker: Namespace,
        *rooms: str,
        sid: str | None = None,
        data: dict[str, Any] | None = None,
    ) -> Member:
        """A member of some rooms on one of the workers, which leaves with the cluster."""
        member = Member(worker, *rooms, sid=sid, data=data)
        await member.open()
        self._members.append(member)
        return member
