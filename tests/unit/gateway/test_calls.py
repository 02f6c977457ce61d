"""What endpoints behind an edge do to their sockets there, and when that is done."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.support import ACCEPT, Site


async def test_a_socket_that_has_left_hears_nothing_that_is_said_from_then_on(site: Site) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("chat-tea", "plain")
            for room in ("chat-tea", "plain"):
                await socket.leave(room)
                await rooms.to(room).send_text(f"to {room}")
                await socket.join(room)
            await socket.send_text("in")
            await socket.receive_text()
            await socket.disconnect(4000)
            await rooms.to("plain").send_text("after all")

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        await client.send_text("go on")
        with pytest.raises(WebSocketDisconnect) as closed:
            await client.receive()
        assert closed.value.code == 4000


async def test_a_leave_beside_a_join_counts_as_one_that_comes_after_it(site: Site) -> None:
    rooms_of: list[set[str]] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            joining = asyncio.create_task(socket.join("chat-tea", "stays"))
            await asyncio.sleep(0)
            await socket.leave("chat-tea")
            await joining
            rooms_of.append({*socket.rooms} - {socket.sid})
            await socket.send_text("in")
            await socket.wait_closed()

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "in"
        assert rooms_of == [{"stays"}]
        assert "stays" in edge.manager.rooms
        assert "chat-tea" not in edge.manager.rooms


async def test_a_socket_that_had_left_as_its_backend_went_comes_in_anew(site: Site) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("chat-tea")
            await socket.send_text("in")
            await socket.wait_closed()

    edge = await site.edge()
    forger = await site.forger(edge)
    client = WebSocketClient(edge, "/")
    opening = asyncio.create_task(client.open())
    await eventually(lambda: forger.heard)
    opened = forger.heard.pop()
    call = {"id": 1, "namespace": "/", "sid": wire.read_json(opened.body)["sid"], "data": {}}
    enter = FrameKind.CALL, wire.to_json({**call, "verb": "enter", "users": {}})
    forger.say(edge.manager.node, opened.connection, ACCEPT, enter)
    await eventually(lambda: FrameKind.REPLY in forger.kinds())
    await opening
    await site.backend(endpoint)
    leaves = FrameKind.CALL, wire.to_json({**call, "id": 0, "verb": "exit"})
    forger.say(edge.manager.node, opened.connection, leaves, (FrameKind.RESET, b""), first=3)
    assert await client.receive() == "in"
    assert edge.manager.rooms.keys() >= {"chat-tea"}
    await client.close()
