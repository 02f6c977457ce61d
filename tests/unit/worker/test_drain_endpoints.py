"""What becomes of endpoints that do not end by themselves when their worker drains."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker import connection as connection_module
from fastapi_rooms.worker.connection import Connection
from fastapi_rooms.worker.listening import listening
from fastapi_rooms.worker.resume import Resume
from tests.unit.support import FakeAdapter, app_of, other_tasks
from tests.unit.worker.support import nothing_is_left, until_gone

FOREVER = 600

Body = Callable[[Socket], Awaitable[object]]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints have little time to end."""
    monkeypatch.setattr(connection_module, "ENDPOINT_TIMEOUT", 0.02)


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> Any:
    """A manager that runs, and gives every client the time it needs."""
    async with RoomManager(adapter, linger=0, drain_window=0, drain_timeout=FOREVER) as rooms:
        yield rooms


async def never_ends(socket: Socket) -> None:
    await asyncio.Event().wait()


async def pushes(socket: Socket) -> None:
    while True:
        await asyncio.sleep(0)
        await socket.send_text("tick")


async def listens(socket: Socket) -> None:
    host: Any = socket._host
    async with listening(host, ("news",), None, Resume()) as messages:
        async for _ in messages:
            pass


async def has_tasks(socket: Socket) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(never_ends(socket))
        group.create_task(never_ends(socket))


async def has_tasks_and_waits(socket: Socket) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(never_ends(socket))
        await socket.wait_closed()


async def has_a_timeout(socket: Socket) -> None:
    async with asyncio.timeout(FOREVER):
        await never_ends(socket)


async def cleans_up(socket: Socket) -> None:
    try:
        await never_ends(socket)
    finally:
        await asyncio.sleep(0.05)


async def ends_by_its_cancellation(socket: Socket) -> None:
    with suppress(asyncio.CancelledError):
        await never_ends(socket)


async def reads(socket: Socket) -> None:
    await until_gone(socket)


BODIES: list[Body] = [
    never_ends,
    pushes,
    listens,
    has_tasks,
    has_tasks_and_waits,
    has_a_timeout,
    cleans_up,
    ends_by_its_cancellation,
    reads,
]


class Endpoint:
    """An endpoint of some body, which notes how its block ended."""

    def __init__(self, rooms: RoomManager, body: Body) -> None:
        self.app = app_of(self._endpoint)
        self.connections: list[Connection] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.after: list[int] = []
        """How many cancellations of the task are pending behind each block."""
        self._rooms = rooms
        self._body = body

    async def _endpoint(self, websocket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        connection = self._rooms.connect(websocket)
        async with connection as socket:
            await socket.join("lobby")
            self.connections.append(connection)
            await self._body(socket)
        await asyncio.sleep(0)
        self.after.append(task.cancelling())


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("lost", [False, True])
async def test_an_endpoint_ends_quietly_when_its_worker_drains(
    rooms: RoomManager,
    adapter: FakeAdapter,
    caplog: pytest.LogCaptureFixture,
    body: Body,
    lost: bool,
) -> None:
    endpoint = Endpoint(rooms, body)
    async with WebSocketClient(endpoint.app) as client:
        await eventually(lambda: endpoint.connections)
        if lost:
            client.leave(1006)
            endpoint.connections[0].lost()
        await rooms.drain()
        await client.wait_ended()
        if not lost:
            assert await client.wait_closed() == 1012
    assert endpoint.after == [0], "the block has ended quietly, and no cancellation is left over"
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_hundreds_end_with_those_that_were_lost_before(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(rooms, never_ends)
    clients = [WebSocketClient(endpoint.app) for _ in range(300)]
    for client in clients:
        await client.open()
    await eventually(lambda: len(endpoint.connections) == 300)
    for connection, client in zip(endpoint.connections[:100], clients[:100], strict=True):
        client.leave(1006)
        connection.lost()
    await rooms.drain()
    for client in clients:
        await client.close()
    assert endpoint.after == [0] * 300
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_has_ended_before_its_turn_is_not_waited_for(
    rooms: RoomManager,
) -> None:
    endpoint = Endpoint(rooms, reads)
    async with WebSocketClient(endpoint.app) as client:
        await eventually(lambda: endpoint.connections)
    await client.wait_ended()
    await endpoint.connections[0].drain(FOREVER)


async def test_an_endpoint_that_keeps_its_cancellation_to_itself_is_named_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    may_end = asyncio.Event()

    async def goes_on(socket: Socket) -> None:
        while not may_end.is_set():
            with suppress(asyncio.CancelledError):
                await may_end.wait()

    async with RoomManager(linger=0, drain_timeout=0.05) as rooms:
        endpoint = Endpoint(rooms, goes_on)
        async with WebSocketClient(endpoint.app) as client:
            await eventually(lambda: endpoint.connections)
            with caplog.at_level(logging.WARNING, "fastapi_rooms"):
                await rooms.drain()
            [record] = caplog.records
            assert repr(endpoint.connections[0].socket) in record.getMessage()
            may_end.set()
            await client.wait_ended()
    assert endpoint.after == [0]
    assert not other_tasks()


async def test_a_cancellation_from_outside_is_not_taken_for_the_drains(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    endpoint = Endpoint(rooms, cleans_up)
    async with WebSocketClient(endpoint.app) as client:
        await eventually(lambda: endpoint.connections)
        [task] = endpoint.tasks
        assert task is not None
        draining = asyncio.create_task(rooms.drain())
        await eventually(task.cancelling)
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
        await draining
    assert endpoint.after == []
    await nothing_is_left(rooms, adapter)


async def test_an_error_in_the_cleanup_is_the_endpoints_own(rooms: RoomManager) -> None:
    async def fails(socket: Socket) -> None:
        try:
            await never_ends(socket)
        finally:
            raise ZeroDivisionError

    endpoint = Endpoint(rooms, fails)
    async with WebSocketClient(endpoint.app) as client:
        await eventually(lambda: endpoint.connections)
        await rooms.drain()
        with pytest.raises(ZeroDivisionError):
            await client.wait_ended()
    [task] = endpoint.tasks
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_is_closing_already_is_not_cancelled(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", FOREVER)
    may_end = asyncio.Event()

    async def says_goodbye(socket: Socket) -> None:
        await may_end.wait()

    async with RoomManager(adapter, linger=0, drain_timeout=0.1) as rooms:
        endpoint = Endpoint(rooms, says_goodbye)
        async with WebSocketClient(endpoint.app) as slow:
            await eventually(lambda: endpoint.connections)
            slow.stall()
            await rooms.to("lobby").send_text("so long")
            may_end.set()
            await eventually(lambda: not rooms.sids)
            await rooms.drain()
            await slow.wait_ended()
        assert endpoint.after == [0]
        await nothing_is_left(rooms, adapter)


async def test_one_in_two_namespaces_ends_quietly_in_both(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    chat = rooms.of("/chat")
    ended: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            async with chat.connect(websocket) as socket:
                await never_ends(socket)
            ended.append("inner")
        ended.append("outer")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: chat.sids)
        await rooms.drain()
        assert await client.wait_closed() == 1012
        await client.wait_ended()
    assert ended[-1] == "outer"
    assert not caplog.records
