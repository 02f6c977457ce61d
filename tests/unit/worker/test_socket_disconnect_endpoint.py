"""How an endpoint ends whose socket is disconnected, by itself or by another task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager, Socket, SocketClosed
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker import connection as connection_module
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import FakeAdapter, app_of, channel_of
from tests.unit.worker.support import member_endpoint, nothing_is_left, until_gone


@pytest.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Member]:
    """A client in the lobby and in the bar."""
    async with Member(rooms, "lobby", "bar", sid="ann") as ann:
        yield ann


@pytest.mark.parametrize("read", ["iter_text", "iter_bytes", "iter_json"])
async def test_an_endpoint_that_iterates_ends_quietly(
    rooms: RoomManager, adapter: FakeAdapter, read: str, caplog: pytest.LogCaptureFixture
) -> None:
    sockets: list[Socket] = []
    after: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            async for _ in getattr(socket, read)():
                pass
            after.append("the loop")
        after.append("the block")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: sockets)
        await sockets[0].disconnect(4001)
        assert await client.wait_closed() == 4001
        await client.wait_ended()
    assert after == ["the loop", "the block"]
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_reads_gets_a_disconnect_with_the_code(rooms: RoomManager) -> None:
    sockets: list[Socket] = []
    ends: list[WebSocketDisconnect] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            try:
                await socket.receive_text()
            except WebSocketDisconnect as end:
                ends.append(end)
                raise

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: sockets)
        await sockets[0].disconnect(4001, "moved")
        await client.wait_ended()
    assert [(end.code, end.reason) for end in ends] == [(4001, "moved")]


async def test_an_endpoint_can_disconnect_its_own_socket(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[set[str]] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await socket.send_text("the last")
            await rooms.to("lobby").send_text("word")
            await socket.disconnect(4001, "enough")
            found.append(set(rooms.sids))

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4001
        assert client.close_reason == "enough"
        assert client.unread == ["the last", "word"]
        await client.wait_ended()
    assert found == [set()]
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_goes_on_after_it_disconnected_its_socket_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    errors: list[SocketClosed] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid="ann") as socket:
            await socket.disconnect(4001)
            await socket.leave("lobby")
            try:
                await socket.join("lobby")
            except SocketClosed as error:
                errors.append(error)
                raise

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4001
        await client.wait_ended()  # and does not raise SocketClosed
    [error] = errors
    assert "ann" in str(error)
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_an_error_of_the_endpoints_own_goes_on(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.disconnect(4001)
            raise ValueError("the endpoint's own")

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4001
        with pytest.raises(ValueError, match="the endpoint's own"):
            await client.wait_ended()


async def test_a_connect_handler_can_disconnect_a_socket(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    @rooms.on("connect")
    async def refuse(socket: Socket) -> None:
        await socket.disconnect(4003, "not today")

    async with WebSocketClient(app_of(member_endpoint(rooms, []))) as client:
        assert await client.wait_closed() == 4003
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("caller", ["its endpoint", "another task"])
async def test_a_client_that_never_reads_again_does_not_keep_its_endpoint(
    rooms: RoomManager, adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, caller: str
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    sockets: list[Socket] = []
    after: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            if caller == "its endpoint":
                await socket.receive_text()
                await socket.disconnect(4001)
            await until_gone(socket)
        after.append("went on")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: sockets)
        client.stall()
        await rooms.send_text("never read")
        if caller == "its endpoint":
            await client.send_text("go")
        else:
            await sockets[0].disconnect(4001)
        await client.wait_ended()
        assert client.unread == []
    assert after == ["went on"]
    await nothing_is_left(rooms, adapter)


async def test_a_worker_that_drains_meanwhile_does_not_close_the_client_again(
    rooms: RoomManager, ann: Member
) -> None:
    ann.stall()
    await rooms.to("lobby").send_text("before")
    await ann.socket.disconnect(4001)
    await rooms.drain()
    ann.resume()
    assert await ann.wait_closed() == 4001
    assert ann.unread == ["before"]


# While a join is under way.


@pytest.mark.parametrize("waits_for", ["the adapter", "authorization"])
async def test_a_join_that_is_under_way_raises_and_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter, ann: Member, waits_for: str
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()
    if waits_for == "authorization":

        @rooms.authorize("new")
        async def allow(socket: Socket, room: str) -> bool:
            asked.set()
            return await answer.wait()

    adapter.hold()
    joining = asyncio.create_task(ann.socket.join("new"))
    await eventually(lambda: adapter.waiting or asked.is_set(), what="a join that waits")
    await ann.socket.disconnect(4001)
    adapter.release()
    answer.set()
    with pytest.raises(SocketClosed, match="ann"):
        await joining
    assert rooms.rooms == {}
    await eventually(lambda: channel_of("new") not in adapter.subscribed)
    assert await ann.wait_closed() == 4001


@pytest.fixture
async def joining(
    rooms: RoomManager, adapter: FakeAdapter
) -> AsyncIterator[tuple[WebSocketClient, Socket]]:
    """A client that does not read, has unread messages, and whose endpoint waits for a join."""
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            async for room in socket.iter_text():
                await socket.join(room)

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: sockets)
        client.stall()
        for number in range(3):
            await rooms.send_text(str(number))
        adapter.hold()
        await client.send_text("lobby")
        await eventually(lambda: adapter.waiting)
        yield client, sockets[0]


async def test_an_endpoint_that_is_joining_ends_quietly(
    rooms: RoomManager,
    adapter: FakeAdapter,
    joining: tuple[WebSocketClient, Socket],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client, socket = joining
    await socket.disconnect(4001)
    adapter.release()
    client.resume()
    await client.wait_ended()  # and does not raise SocketClosed
    assert client.close_code == 4001
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_a_client_whose_endpoint_is_joining_gets_what_was_sent_before(
    adapter: FakeAdapter, joining: tuple[WebSocketClient, Socket]
) -> None:
    client, socket = joining
    await socket.disconnect(4001)
    adapter.release()
    await eventually(lambda: not adapter.waiting, what="the join is over")
    client.resume()
    assert await client.wait_closed() == 4001
    assert client.unread == ["0", "1", "2"]


async def test_a_client_whose_endpoint_ends_at_once_gets_what_a_crowd_is_being_sent(
    rooms: RoomManager,
) -> None:
    may_end = asyncio.Event()
    sending: list[asyncio.Task[None]] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("crowd")
            await may_end.wait()
            sending.append(asyncio.create_task(rooms.to("crowd").send_text("before")))
            await asyncio.sleep(0)
            await socket.disconnect(4001)

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(WebSocketClient(app_of(endpoint)))
        for _ in range(IMMEDIATE_MAX):
            await stack.enter_async_context(Member(rooms, "crowd"))
        await eventually(lambda: len(rooms.rooms["crowd"]) == IMMEDIATE_MAX + 1)
        may_end.set()
        assert await client.wait_closed() == 4001
        await sending[0]
        assert client.unread == ["before"]
