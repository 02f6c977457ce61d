"""`rooms.connect` brings a client in, or turns it away."""

from __future__ import annotations

import logging

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, NotStarted, RoomManager, SidInUse, Socket
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from tests.unit.support import FakeAdapter, all_is_over, app_of, channel_of
from tests.unit.worker.support import echo_endpoint, nothing_is_left, until_gone


async def test_connect_accepts_and_gives_a_socket_in_a_room_of_its_own(rooms: RoomManager) -> None:
    seen: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"name": "Ann"}) as socket:
            assert socket.websocket is websocket
            assert socket.rooms == {socket.sid}
            assert rooms.rooms == {socket.sid: {socket.sid}}
            assert rooms.sids == {socket.sid: {socket.sid}}
            seen.append(socket)
            await until_gone(socket)

    async with WebSocketClient(app_of(endpoint)):
        await eventually(lambda: seen)
    [socket] = seen
    assert socket.data == {"name": "Ann"}
    assert socket.rooms == set()
    await all_is_over(rooms)


async def test_a_sid_of_ones_own_choice_is_kept(rooms: RoomManager, adapter: FakeAdapter) -> None:
    async with WebSocketClient(app_of(echo_endpoint(rooms, sid="ann"))):
        await eventually(lambda: rooms.sids.get("ann") == {"ann", "lobby"})
        assert channel_of("ann") in adapter.subscribed, "others send to it as to any room"
    await nothing_is_left(rooms, adapter)


async def test_subprotocol_and_headers_go_with_the_acceptance(rooms: RoomManager) -> None:
    endpoint = echo_endpoint(rooms, subprotocol="chat.v2", headers=[(b"x-worker", b"1")])
    client = WebSocketClient(app_of(endpoint), subprotocols=["chat.v1", "chat.v2"])
    async with client:
        assert client.subprotocol == "chat.v2"
        assert (b"x-worker", b"1") in client.headers


async def test_a_websocket_that_is_accepted_already_is_not_accepted_again(
    rooms: RoomManager,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept(subprotocol="mine")
        await websocket.send_text("first")
        async with rooms.connect(websocket, subprotocol="ignored") as socket:
            await socket.send_text("second")
            await until_gone(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert client.subprotocol == "mine"
        assert await client.receive_text() == "first"
        assert await client.receive_text() == "second"


async def test_a_sid_that_is_in_use_is_refused_and_its_owner_stays(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    refused: list[SidInUse] = []

    async def endpoint(websocket: WebSocket) -> None:
        try:
            async with rooms.connect(websocket, sid="ann") as socket:
                await socket.join("lobby")
                async for text in socket.iter_text():
                    await socket.send_text(text)
        except SidInUse as error:
            refused.append(error)
            await websocket.close(1008, "somebody else is Ann")  # it is not accepted: HTTP 403

    app = app_of(endpoint)
    async with WebSocketClient(app) as first:
        await eventually(lambda: "lobby" in rooms.rooms)
        adapter.hold()  # it is known at once, and the adapter is not asked
        with pytest.raises(Rejected, match="403"):
            await WebSocketClient(app).open()
        adapter.release()
        assert "'ann'" in str(refused[0])
        assert rooms.rooms == {"ann": {"ann"}, "lobby": {"ann"}}
        await first.send_text("still here")
        assert await first.receive_text() == "still here"
    async with WebSocketClient(app):
        await eventually(lambda: "ann" in rooms.sids, what="the sid is free again")
    await all_is_over(rooms)


async def test_of_two_who_want_one_sid_at_once_one_gets_it(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    refused = 0

    async def endpoint(websocket: WebSocket) -> None:
        nonlocal refused
        try:
            async with rooms.connect(websocket, sid="ann") as socket:
                await until_gone(socket)
        except SidInUse:
            refused += 1
            await websocket.close(1008)

    app = app_of(endpoint)
    adapter.hold()
    async with WebSocketClient(app), WebSocketClient(app):
        await eventually(lambda: adapter.waiting == 2)
        adapter.release()
        await eventually(lambda: refused == 1)
        assert rooms.sids == {"ann": {"ann"}}
        assert channel_of("ann") in adapter.subscribed
    await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("sid", [None, "ann"])
async def test_a_manager_that_is_not_started_says_so_before_the_client_is_accepted(
    sid: str | None,
) -> None:
    rooms = RoomManager()
    client = WebSocketClient(app_of(echo_endpoint(rooms, sid=sid)))
    with pytest.raises(NotStarted, match="lifespan"):
        await client.open()
    assert not client.accepted


async def test_a_client_is_turned_away_with_try_again_later_when_its_sid_is_not_confirmed(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    adapter.subscribe_error = AdapterUnavailable("Redis is away")
    async with WebSocketClient(app_of(echo_endpoint(rooms, sid="ann"))) as client:
        assert await client.wait_closed() == 1013
        await client.wait_ended()
    assert "Redis is away" in caplog.text
    await nothing_is_left(rooms, adapter)
