"""Several workers in one process, and members of their rooms, for the tests of an application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, Unpack

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from fastapi_rooms import (
    Adapter,
    ManagerSettings,
    MemoryAdapter,
    MemoryBus,
    Namespace,
    RoomManager,
    Socket,
    UsageError,
)
from fastapi_rooms.testing.client import WebSocketClient
from fastapi_rooms.testing.overrides import AppOnWorker
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

    An application's own manager can be cloned: its handlers and settings are those of each worker,
    and `client` connects to the application as a worker runs it, where `Depends(rooms)` gives that
    worker's manager. The two may be clients of one application object at the same time:

        from chat import app, rooms

        async with Cluster(workers=2, of=rooms) as cluster:
            one, two = cluster
            async with (
                cluster.client(one, app, "/chat/lobby") as ann,
                cluster.client(two, app, "/chat/lobby") as bob,
            ):
                await ann.send_text("hello")
                assert await bob.receive_text() == "hello"

    With pytest, make it a fixture: `async with Cluster(workers=2) as cluster: yield cluster`.

    Args:
        workers: how many.
        of: the manager to clone, by `RoomManager.clone`; they have no handlers when left out.
        adapter: makes one worker's adapter; in memory, on a bus of their own, when left out.
            `lambda: RedisAdapter(server.url)` has them meet in Redis.
        settings: what else `RoomManager` takes: `outbox`, `linger`, …
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        of: RoomManager | None = None,
        adapter: Callable[[], Adapter] | None = None,
        **settings: Unpack[ManagerSettings],
    ) -> None:
        bus = MemoryBus()
        make = adapter or (lambda: MemoryAdapter(bus))
        manager = RoomManager if of is None else of.clone
        self._of = of
        self.workers = [manager(make(), **settings) for _ in range(workers)]
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

    def app(self, worker: RoomManager, app: ASGIApp) -> ASGIApp:
        """A FastAPI application as one of the workers runs it, for any client of ASGI applications.

        In its connections and requests `Depends(rooms)`, where `rooms` is the manager that was
        cloned, gives the worker, and `Depends(rooms.of(name))` its namespace: those that are made
        by then. Applications that are mounted in it are included.

        Raises:
            UsageError: the workers are no clones, this is none of them, or there is no FastAPI
                application.
        """
        if self._of is None or worker not in self.workers:
            raise UsageError(
                "A worker runs an application whose manager it is a clone of: give the cluster "
                "that manager, Cluster(of=rooms), and this one of its workers."
            )
        return AppOnWorker(app, self._of, worker)

    def client(
        self,
        worker: RoomManager,
        app: ASGIApp,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (),
        state: Mapping[str, Any] | None = None,
    ) -> WebSocketClient:
        """A client of a FastAPI application as one of the workers runs it.

        It takes what `WebSocketClient` takes, and is to be entered as that is. Raises what `app`
        does.
        """
        return WebSocketClient(
            self.app(worker, app), path, headers=headers, subprotocols=subprotocols, state=state
        )

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
