"""`socket.wait_closed`: for an endpoint that only pushes, and ends when its client is gone."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.support import FakeAdapter, app_of
from tests.unit.worker.support import nothing_is_left, until_gone


class Waiting:
    """An endpoint that waits for its client's end."""

    def __init__(self, rooms: RoomManager) -> None:
        self.app = app_of(self._endpoint)
        self.sockets: list[Socket] = []
        self.over = 0
        self._rooms = rooms

    async def _endpoint(self, websocket: WebSocket) -> None:
        async with self._rooms.connect(websocket) as socket:
            await socket.join("lobby")
            self.sockets.append(socket)
            await socket.wait_closed()
            self.over += 1


async def test_it_returns_when_the_client_goes_and_ignores_what_it_says(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Waiting(rooms)
    async with WebSocketClient(waiting.app) as client:
        for _ in range(100):
            await client.send_text("text")
            await client.send_bytes(b"bytes")
        await eventually(lambda: waiting.sockets)
        await rooms.to("lobby").send_text("news")
        assert await client.receive_text() == "news"
        assert [waiting.over] == [0]
        client.leave(1001)
        await client.wait_ended()
    assert waiting.over == 1
    assert waiting.sockets[0].is_lost
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_the_socket_has_left_when_it_returns(rooms: RoomManager) -> None:
    left: list[bool] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await socket.wait_closed()
            left.append(not rooms.rooms and not rooms.sids)
            await socket.wait_closed()  # at once

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.leave()
        await client.wait_ended()
    assert left == [True]


async def test_it_returns_when_the_socket_is_disconnected_or_its_worker_drains() -> None:
    async with RoomManager(linger=0) as rooms:
        waiting = Waiting(rooms)
        async with WebSocketClient(waiting.app) as ann, WebSocketClient(waiting.app) as bob:
            await eventually(lambda: len(waiting.sockets) == 2)
            await waiting.sockets[0].disconnect(4001)
            await eventually(lambda: waiting.over == 1)
            await rooms.drain()
            assert waiting.over == 2
            assert {await ann.wait_closed(), await bob.wait_closed()} == {4001, 1012}


async def test_it_returns_where_somebody_else_has_read_the_end(rooms: RoomManager) -> None:
    after: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await until_gone(socket)
            await socket.wait_closed()
            after.append("by the socket")

    async def raw_endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for _ in websocket.iter_text():
                pass
            await socket.wait_closed()
            after.append("by the websocket")

    for one in (endpoint, raw_endpoint):
        async with WebSocketClient(app_of(one)) as client:
            await eventually(lambda: rooms.sids)
            client.leave()
            await client.wait_ended()
    assert after == ["by the socket", "by the websocket"]


async def test_it_can_be_cut_short_and_what_comes_then_is_not_lost(rooms: RoomManager) -> None:
    read: list[str] = []
    short = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await socket.wait_closed()
            short.set()
            read.append(await socket.receive_text())

    async with WebSocketClient(app_of(endpoint)) as client:
        await short.wait()
        await client.send_text("still here")
        await client.wait_ended()
    assert read == ["still here"]
