"""What an endpoint has in `socket.data`, and what it was sent, when another goes on for it."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import JoinRefused, RoomManager, Socket
from fastapi_rooms.servers.gateway import telling
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire.gateway import MAX_CALL
from tests.unit.gateway.support import Site


async def counts(rooms: RoomManager, websocket: WebSocket) -> None:
    """An endpoint that says how often it has said something, and never reads."""
    async with rooms.connect(websocket, data={"count": 0}) as socket:
        while True:
            socket.data["count"] += 1
            await socket.send_text(str(socket.data["count"]))
            await asyncio.sleep(0)


async def test_the_data_of_one_that_only_sends_goes_on_with_the_next(site: Site) -> None:
    edge = await site.edge()
    backend = await site.backend(counts)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "1"
        await site.replace(backend, counts)
        await client.receive_until("100")
        said = [int(str(await client.receive())) for _ in range(100)]
        assert said == [*range(101, 201)]


async def test_it_is_known_elsewhere_soon_after_something_was_sent(site: Site) -> None:
    async def says_once(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"name": ""}) as socket:
            socket.data["name"] = "ann"
            await socket.send_text("hello")
            await asyncio.Event().wait()

    edge = await site.edge()
    await site.backend(says_once)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "hello"

        async def is_known() -> bool:
            return [each.data for each in await edge.manager.fetch_sockets()] == [{"name": "ann"}]

        await eventually(is_known)


async def test_that_it_cannot_be_told_is_said_once_and_harms_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(telling, "DELAY", 0.0)

    async def says_too_much(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={}) as socket:
            socket.data["x"] = "x" * MAX_CALL
            while True:
                await socket.send_text(f"{socket.attempt}")
                await asyncio.sleep(0)

    edge = await site.edge()
    backend = await site.backend(says_too_much)
    async with WebSocketClient(edge, "/") as client:
        await eventually(lambda: "socket.data" in caplog.text)
        await site.replace(backend, says_too_much)
        await client.receive_until("1")
        await eventually(lambda: len(caplog.records) == 2, what="and by the next endpoint")


async def test_what_an_endpoint_has_not_read_is_not_read_beside_the_next(site: Site) -> None:
    read: list[str] = []
    go = asyncio.Event()

    async def hesitates(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        await go.wait()
        try:
            while True:
                read.append(await websocket.receive_text())
        except WebSocketDisconnect as error:
            read.append(str(error.code))

    edge = await site.edge()
    backend = await site.backend(hesitates)
    async with WebSocketClient(edge, "/") as client:
        await client.send_text("one")
        await client.send_text("two")
        (connection,) = backend._connections.values()
        await eventually(lambda: len(connection._incoming) == 2)
        connection.detach()
        go.set()
        await eventually(lambda: read)
    assert read == ["1012"]


@pytest.mark.parametrize("how", ["is refused", "cannot be asked"])
async def test_a_room_that_a_later_endpoint_may_not_join_is_heard_no_more(
    site: Site, how: str
) -> None:
    refused: list[str] = []

    async def joins(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            try:
                await socket.join("secret")
            except (JoinRefused, LookupError) as error:
                refused.append(type(error).__name__)
            await socket.send_text("here")
            await socket.wait_closed()

    async def authorize(socket: Socket, room: str) -> bool:
        if socket.attempt and how == "cannot be asked":
            raise LookupError("the database is away")
        return not socket.attempt

    edge = await site.edge()
    first, second = site.manager(), site.manager()
    for rooms in (first, second):
        rooms.authorize("*")(authorize)
    backend = await site.backend(joins, first)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "here"
        assert "secret" in edge.manager.rooms
        await site.backend(joins, second)
        await backend.close()
        assert await client.receive() == "here"
        assert "secret" not in edge.manager.rooms
    assert len(refused) == 1
