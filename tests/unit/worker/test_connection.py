"""`rooms.connect`: a client is brought in, and seen out whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms import (
    AdapterUnavailable,
    ClientError,
    NotStarted,
    OutboxPolicy,
    RoomManager,
    SidInUse,
    Socket,
    SocketClosed,
)
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker import connection as connection_module
from tests.unit.support import FakeAdapter, all_is_over, app_of, channel_of

Endpoint = Callable[[WebSocket], Awaitable[None]]


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, on an adapter in the test's hands, without a linger."""
    async with RoomManager(adapter, linger=0) as rooms:
        yield rooms


async def _until_gone(socket: Socket) -> None:
    async for _ in socket.iter_text():
        pass


def _echo(rooms: RoomManager, **settings: Any) -> Endpoint:
    """An endpoint that joins the lobby and says everything back."""

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, **settings) as socket:
            await socket.join("lobby")
            async for text in socket.iter_text():
                await socket.send_text(f"{text}!")

    return endpoint


def _member(rooms: RoomManager, sockets: list[Socket]) -> Endpoint:
    """An endpoint that joins the lobby, shows its socket to the test, and stays."""

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            await socket.join("lobby")
            await _until_gone(socket)

    return endpoint


async def _nothing_is_left(rooms: RoomManager, adapter: FakeAdapter) -> None:
    await all_is_over(rooms)
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")


# In.


async def test_connect_accepts_and_gives_a_socket_in_a_room_of_its_own(rooms: RoomManager) -> None:
    seen: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, data={"name": "Ann"}) as socket:
            assert socket.websocket is websocket
            assert socket.rooms == {socket.sid}
            assert rooms.rooms == {socket.sid: {socket.sid}}
            assert rooms.sids == {socket.sid: {socket.sid}}
            seen.append(socket)
            await _until_gone(socket)

    async with WebSocketClient(app_of(endpoint)):
        await eventually(lambda: seen)
    [socket] = seen
    assert socket.data == {"name": "Ann"}
    assert socket.rooms == set()
    await all_is_over(rooms)


async def test_a_sid_of_ones_own_choice_is_kept(rooms: RoomManager, adapter: FakeAdapter) -> None:
    async with WebSocketClient(app_of(_echo(rooms, sid="ann"))):
        await eventually(lambda: rooms.sids.get("ann") == {"ann", "lobby"})
        assert channel_of("ann") in adapter.subscribed, "others send to it as to any room"
    await _nothing_is_left(rooms, adapter)


async def test_subprotocol_and_headers_go_with_the_acceptance(rooms: RoomManager) -> None:
    endpoint = _echo(rooms, subprotocol="chat.v2", headers=[(b"x-worker", b"1")])
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
            await _until_gone(socket)

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
            await websocket.close(1008, "somebody else is Ann")

    app = app_of(endpoint)
    async with WebSocketClient(app) as first:
        await eventually(lambda: "lobby" in rooms.rooms)
        adapter.hold_up()  # it is known at once, and the adapter is not asked
        async with WebSocketClient(app) as second:
            assert await second.wait_closed() == 1008
        adapter.let_go()
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
                await _until_gone(socket)
        except SidInUse:
            refused += 1
            await websocket.close(1008)

    app = app_of(endpoint)
    adapter.hold_up()
    async with WebSocketClient(app), WebSocketClient(app):
        await eventually(lambda: adapter.waiting == 2)
        adapter.let_go()
        await eventually(lambda: refused == 1)
        assert rooms.sids == {"ann": {"ann"}}
        assert channel_of("ann") in adapter.subscribed
    await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("sid", [None, "ann"])
async def test_a_manager_that_is_not_started_says_so_before_the_client_is_accepted(
    sid: str | None,
) -> None:
    rooms = RoomManager()
    client = WebSocketClient(app_of(_echo(rooms, sid=sid)))
    with pytest.raises(NotStarted, match="lifespan"):
        await client.open()
    assert not client.accepted


async def test_a_client_is_turned_away_with_try_again_later_when_its_sid_is_not_confirmed(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    adapter.subscribe_error = AdapterUnavailable("Redis is away")
    async with WebSocketClient(app_of(_echo(rooms, sid="ann"))) as client:
        assert await client.wait_closed() == 1013
        await client.wait_ended()
    assert "Redis is away" in caplog.text
    await _nothing_is_left(rooms, adapter)


# Out.


async def test_a_client_that_goes_ends_the_block_quietly(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby", "bar")
            while True:
                await socket.receive_text()
        after.append("went on")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.leave(1001)
        await client.wait_ended()
    assert after == ["went on"]
    assert not caplog.records
    await _nothing_is_left(rooms, adapter)


async def test_a_task_group_that_ends_by_its_client_ends_the_block_quietly(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket, asyncio.TaskGroup() as group:
            group.create_task(socket.receive_text())
            group.create_task(asyncio.Event().wait())

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: rooms.sids)
        client.leave()
        await client.wait_ended()
    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: rooms.sids)
        await client.send_bytes(b"not text")
        assert await client.wait_closed() == 1003
        await client.wait_ended()
    assert not caplog.records
    await _nothing_is_left(rooms, adapter)


async def test_a_task_group_that_fails_of_its_own_is_not_ended_quietly(rooms: RoomManager) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket, asyncio.TaskGroup() as group:
            group.create_task(socket.join("lobby"))
            group.create_task(fail())

    client = WebSocketClient(app_of(endpoint))
    with pytest.raises(ExceptionGroup) as failure:
        async with client:
            await client.wait_ended()
    assert failure.group_contains(ZeroDivisionError)
    await all_is_over(rooms)


@pytest.mark.parametrize("read", ["receive_text", "receive_bytes", "receive_json", "receive"])
async def test_the_endpoints_own_reading_from_the_websocket_ends_quietly_too(
    rooms: RoomManager, adapter: FakeAdapter, read: str
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            while True:
                await getattr(websocket, read)()

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.leave()
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


async def test_the_endpoints_own_loop_over_the_websocket_works(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            async for text in websocket.iter_text():
                await websocket.send_text(f"{text}!")
                await rooms.to("lobby").send_text(f"{text}!!")

    async with WebSocketClient(app_of(endpoint)) as client:
        for text in ("one", "two"):
            await client.send_text(text)
            assert await client.receive_text() == f"{text}!"
            assert await client.receive_text() == f"{text}!!"


async def test_an_endpoint_that_forgets_to_leave_has_left(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby", "bar")

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_raises_has_left_and_its_error_goes_on(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            raise ValueError("the endpoint's own")

    async with WebSocketClient(app_of(endpoint)) as client:
        with pytest.raises(ValueError, match="the endpoint's own"):
            await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_has_left_and_stays_cancelled(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    tasks: list[asyncio.Task[Any] | None] = []
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await _until_gone(socket)
        after.append("went on")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
    assert after == []
    await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("outcome", ["confirmed", "refused", "timed out"])
async def test_a_client_that_goes_while_a_join_waits_leaves_nothing(
    adapter: FakeAdapter, outcome: str
) -> None:
    timeout = 0.05 if outcome == "timed out" else 60
    async with RoomManager(adapter, linger=0, join_timeout=timeout) as rooms:
        async with WebSocketClient(app_of(_echo(rooms))) as client:
            await eventually(lambda: rooms.sids)
            adapter.hold_up()
            await eventually(lambda: channel_of("lobby") in adapter.subscribed)
            client.leave(1006)
            if outcome == "refused":
                adapter.subscribe_error = AdapterUnavailable("no")
            if outcome != "timed out":
                adapter.let_go()
            await client.wait_ended()
        await _nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_while_a_join_waits_leaves_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    joining: list[asyncio.Task[Any] | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        joining.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")

    async with WebSocketClient(app_of(endpoint)) as client:
        adapter.let_go()
        adapter.hold_up()
        await eventually(lambda: adapter.waiting)
        [task] = joining
        assert task is not None
        task.cancel()
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize(
    ("read", "message", "code"),
    [
        ("receive_text", b"bytes", 1003),
        ("receive_bytes", "text", 1003),
        ("receive_json", "{", 1007),
        ("receive_json", b"\xff", 1007),
    ],
)
async def test_a_client_that_sends_what_cannot_be_read_is_closed_with_the_reason(
    rooms: RoomManager,
    adapter: FakeAdapter,
    caplog: pytest.LogCaptureFixture,
    read: str,
    message: str | bytes,
    code: int,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await getattr(socket, read)()

    async with WebSocketClient(app_of(endpoint)) as client:
        if isinstance(message, bytes):
            await client.send_bytes(message)
        else:
            await client.send_text(message)
        assert await client.wait_closed() == code
        assert client.close_reason.startswith("Expected")
        await client.wait_ended()
    assert not caplog.records, "a client must not be able to fill the log"
    await _nothing_is_left(rooms, adapter)


async def test_a_reason_is_cut_to_what_a_close_frame_can_carry(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            raise ClientError("é" * 100, code=4000)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        assert client.close_reason == "é" * 61


async def test_an_adapter_that_fails_in_the_block_closes_with_try_again_later(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            adapter.publish_error = AdapterUnavailable("Redis is away")
            await socket.to("lobby").send_text("hello?")

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 1013
        await client.wait_ended()
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "Redis is away" in record.getMessage()
    assert record.exc_info is None
    await _nothing_is_left(rooms, adapter)


async def test_an_error_after_the_connection_was_closed_is_not_closed_again(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await websocket.close(4000)
            assert websocket.application_state is WebSocketState.DISCONNECTED
            raise AdapterUnavailable("in the farewell")
        await _until_gone(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("use", ["receive_text", "send_text"])
@pytest.mark.parametrize("starlette", ["with a class for it", "before that"])
async def test_using_the_websocket_after_its_end_ends_the_block_quietly(
    rooms: RoomManager,
    adapter: FakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
    use: str,
    starlette: str,
) -> None:
    if starlette == "before that":
        monkeypatch.setattr(connection_module, "websockets", SimpleNamespace())

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await websocket.close(4000)
            await _until_gone(socket)
            await (websocket.send_text("x") if use == "send_text" else websocket.receive_text())

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


async def test_a_runtime_error_of_the_endpoints_own_is_not_taken_for_the_end(
    rooms: RoomManager,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            raise RuntimeError("mine")

    async with WebSocketClient(app_of(endpoint)) as client:
        with pytest.raises(RuntimeError, match="mine"):
            await client.wait_ended()


async def test_using_another_socket_whose_block_is_over_is_the_endpoints_own_error(
    rooms: RoomManager,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as former:
            pass
        async with rooms.connect(websocket):
            await former.join("lobby")

    async with WebSocketClient(app_of(endpoint)) as client:
        with pytest.raises(SocketClosed):
            await client.wait_ended()


async def test_sending_to_a_client_that_has_gone_ends_the_block_quietly(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    gone = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await gone.wait()
            while True:
                await socket.send_text("anyone?")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.leave(1006)
        gone.set()
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)


async def test_a_broadcast_to_a_client_that_has_gone_harms_nobody(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    ended = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await ended.wait()  # this one does not read, and so does not know

    app = app_of(endpoint)
    async with WebSocketClient(app) as gone, WebSocketClient(app) as here:
        await eventually(lambda: len(rooms.rooms.get("lobby", ())) == 2)
        gone.leave(1006)
        for text in ("one", "two"):
            await rooms.to("lobby").send_text(text)
            assert await here.receive_text() == text
        ended.set()
    await _nothing_is_left(rooms, adapter)


async def test_what_was_sent_before_the_end_of_the_block_still_arrives(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            for number in range(50):
                await rooms.to("lobby").send_text(str(number))

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 1000
        assert client.unread == [str(number) for number in range(50)]


async def test_a_block_that_ends_closes_what_it_accepted_and_nothing_else(
    rooms: RoomManager,
) -> None:
    async def accepted_by_the_block(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            pass
        assert websocket.application_state is WebSocketState.DISCONNECTED

    async def accepted_before(websocket: WebSocket) -> None:
        await websocket.accept()
        async with rooms.connect(websocket):
            pass
        await websocket.send_text("still open")
        await websocket.close(4000)

    async def closed_by_the_endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket):
            await websocket.close(4001)

    async def left_by_the_client(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await _until_gone(socket)
        assert websocket.application_state is WebSocketState.CONNECTED, "there is nobody to tell"

    for endpoint, code in (
        (accepted_by_the_block, 1000),
        (accepted_before, 4000),
        (closed_by_the_endpoint, 4001),
    ):
        async with WebSocketClient(app_of(endpoint)) as client:
            assert await client.wait_closed() == code
            await client.wait_ended()
    async with WebSocketClient(app_of(left_by_the_client)) as client:
        client.leave(1001)
        await client.wait_ended()


async def test_a_client_that_does_not_read_does_not_keep_an_endpoint_that_is_over(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    entered = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            entered.set()
            await socket.receive_text()

    async with WebSocketClient(app_of(endpoint)) as client:
        await entered.wait()
        client.stall()
        await client.send_text("that is all")
        await client.wait_ended()
        await all_is_over(rooms)


async def test_a_socket_whose_block_is_over_can_be_asked_but_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid="ann") as socket:
            await socket.join("lobby")
        assert socket.rooms == set()
        adapter.hold_up()  # it is told at once, and the adapter is not asked
        await socket.leave("lobby")
        with pytest.raises(SocketClosed, match="ann"):
            await socket.join("lobby")
        with pytest.raises(WebSocketDisconnect):
            await socket.send_text("x")

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.wait_ended()
    assert not rooms.rooms


async def test_a_socket_whose_block_is_over_is_not_taken_for_a_new_one_of_its_sid(
    rooms: RoomManager,
) -> None:
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid="ann") as socket:
            sockets.append(socket)
            await socket.join("lobby")
            await _until_gone(socket)

    app = app_of(endpoint)
    async with WebSocketClient(app):
        await eventually(lambda: "lobby" in rooms.rooms)
    async with WebSocketClient(app):
        await eventually(lambda: "lobby" in rooms.rooms)
        former, present = sockets
        assert former.rooms == set()
        await former.leave("lobby")
        assert present.rooms == {"ann", "lobby"}
        assert rooms.rooms["lobby"] == {"ann"}


# Clients that do not read.

LARGE = "x" * 400


def _bounded(
    adapter: FakeAdapter, overflow: Literal["close", "drop_oldest", "drop_newest"] = "close"
) -> RoomManager:
    """A manager whose outboxes hold two large messages."""
    return RoomManager(adapter, linger=0, outbox=OutboxPolicy(1000, overflow))


async def _fill(rooms: RoomManager, count: int = 5) -> None:
    """Send more than fits: one is on its way out, two fit into the outbox, the rest does not."""
    for number in range(count):
        await rooms.to("lobby").send_text(f"{number}{LARGE}")


async def test_a_client_that_does_not_read_is_closed_with_1013_and_its_endpoint_ends(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    rooms = _bounded(adapter)
    async with rooms:
        app = app_of(_echo(rooms))
        async with WebSocketClient(app) as slow, WebSocketClient(app) as quick:
            await eventually(lambda: len(rooms.rooms.get("lobby", ())) == 2)
            slow.stall()
            await _fill(rooms)
            for number in range(5):
                assert await quick.receive_text() == f"{number}{LARGE}"
            await eventually(lambda: len(rooms.rooms["lobby"]) == 1, what="it is out at once")
            slow.resume()
            assert await slow.wait_closed() == 1013
            assert slow.close_reason == "too slow"
            await slow.wait_ended()
        assert "left more than 1000 bytes unread" in caplog.text
        await _nothing_is_left(rooms, adapter)


async def test_a_client_that_never_reads_again_does_not_keep_its_endpoint(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = _bounded(adapter)
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await _until_gone(socket)
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await client.wait_ended()
        assert after == ["went on"], "the block ends quietly, whatever ended it"
        await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("after_all", [WebSocketClient.leave, WebSocketClient.resume])
async def test_a_slow_client_that_goes_or_reads_after_all_ends_its_endpoint_by_that(
    adapter: FakeAdapter, after_all: Callable[[WebSocketClient], None]
) -> None:
    rooms = _bounded(adapter)
    ends: list[BaseException] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            try:
                await socket.receive_text()
            except BaseException as end:
                ends.append(end)
                raise

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            after_all(client)
            await client.wait_ended()
        await _nothing_is_left(rooms, adapter)
    [end] = ends
    assert isinstance(end, WebSocketDisconnect), "and not by force"


async def test_a_slow_client_is_told_before_its_endpoint_is_over(adapter: FakeAdapter) -> None:
    rooms = _bounded(adapter)
    read: list[str] = []
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            read.append(await socket.receive_text())
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            await client.send_text("that is all")
            await eventually(lambda: read)
            assert after == []
            client.resume()
            await client.wait_ended()
            assert client.close_code == 1013
            assert after == ["went on"]
        await _nothing_is_left(rooms, adapter)


async def test_a_slow_client_that_cannot_be_told_does_not_keep_an_endpoint_that_is_over(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.05)
    rooms = _bounded(adapter)
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await socket.receive_text()
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await client.send_text("that is all")
            await client.wait_ended()
            assert after == ["went on"]
        await _nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_while_its_slow_client_is_told_leaves_no_task(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 600)
    rooms = _bounded(adapter)
    read: list[str] = []
    tasks: list[asyncio.Task[Any] | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            read.append(await socket.receive_text())

    async with rooms, WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.stall()
        await _fill(rooms)
        await eventually(lambda: "lobby" not in rooms.rooms)
        await client.send_text("that is all")
        await eventually(lambda: read)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
        await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_endpoint_that_is_cancelled_does_not_wait_for_its_slow_client_to_be_told(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 600)
    rooms = _bounded(adapter)
    tasks: list[asyncio.Task[Any] | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            if grouped:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_until_gone(socket))
            else:
                await _until_gone(socket)

    async with rooms, WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.stall()
        await _fill(rooms)
        await eventually(lambda: "lobby" not in rooms.rooms)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
        await _nothing_is_left(rooms, adapter)


async def test_a_slow_client_is_given_up_quietly_by_an_endpoint_that_outlived_a_cancellation(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = _bounded(adapter)
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await _until_gone(socket)
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await client.wait_ended()
        assert after == ["went on"]
        await _nothing_is_left(rooms, adapter)


async def test_a_slow_client_whose_endpoint_ends_at_that_moment_is_not_closed_as_well(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    rooms, may_end = _bounded(adapter), asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await may_end.wait()
            for _ in range(5):  # without a pause, so that the block is over before it is told
                rooms._here.deliver(Target(("lobby",)), Payload.of_text(LARGE), volatile=False)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            may_end.set()
            await client.wait_ended()
        await _nothing_is_left(rooms, adapter)
    assert not caplog.records


async def test_a_cancellation_from_outside_wins_over_the_one_for_a_slow_client(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = _bounded(adapter)
    tasks: list[asyncio.Task[Any] | None] = []
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        task = asyncio.current_task()
        tasks.append(task)
        assert task is not None
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            try:
                await _until_gone(socket)
            finally:
                task.cancel()  # somebody else's, while the first is on its way
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await client.wait_ended()
        [task] = tasks
        assert task is not None
        assert task.cancelled()
        assert after == []
        await _nothing_is_left(rooms, adapter)


async def test_a_slow_client_whose_endpoint_still_has_something_to_do_ends_quietly(
    adapter: FakeAdapter,
) -> None:
    rooms = _bounded(adapter)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            async for room in socket.iter_text():
                await socket.join(room)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await _fill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            await client.send_text("another room")
            client.resume()
            await client.wait_ended()  # and does not raise SocketClosed: its client did this
        await _nothing_is_left(rooms, adapter)


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [0, 3, 4, 5]), ("drop_newest", [0, 1, 2, 5])]
)
async def test_a_dropping_outbox_keeps_the_client_and_counts_what_it_missed(
    adapter: FakeAdapter, overflow: Literal["drop_oldest", "drop_newest"], kept: list[int]
) -> None:
    rooms = _bounded(adapter, overflow)
    sockets: list[Socket] = []
    async with rooms:
        async with WebSocketClient(app_of(_member(rooms, sockets))) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            [socket] = sockets
            client.stall()
            await rooms.to("lobby").send_text(f"0{LARGE}")
            await eventually(lambda: socket.pending == 0, what="the first is on its way")
            for number in range(1, 5):
                await rooms.to("lobby").send_text(f"{number}{LARGE}")
            assert socket.dropped == 2
            client.resume()
            await eventually(lambda: len(client.unread) == 3)
            await rooms.to("lobby").send_text(f"5{LARGE}")
            assert [await client.receive_text() for _ in kept] == [f"{n}{LARGE}" for n in kept]
            assert (socket.dropped, socket.pending) == (2, 0)
        await _nothing_is_left(rooms, adapter)


async def test_a_volatile_message_skips_a_client_that_is_behind_and_no_other(
    rooms: RoomManager,
) -> None:
    sockets: list[Socket] = []
    app = app_of(_member(rooms, sockets))
    async with WebSocketClient(app) as slow, WebSocketClient(app) as quick:
        await eventually(lambda: len(rooms.rooms.get("lobby", ())) == 2)
        slow.stall()
        await rooms.to("lobby").send_text("held up")
        assert await quick.receive_text() == "held up"
        await rooms.to("lobby").volatile.send_text("typing")
        assert await quick.receive_text() == "typing"
        assert [socket.dropped for socket in sockets] == [1, 0]
        slow.resume()
        await rooms.to("lobby").send_text("last")
        assert await slow.receive_until("last") == ["held up"]


async def test_sends_and_broadcasts_arrive_in_the_order_they_were_made(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            for number in range(0, 300, 3):
                await rooms.to("lobby").send_text(str(number))
                await socket.send_text(str(number + 1))
                await rooms.to(socket.sid).send_text(str(number + 2))
            await _until_gone(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.receive_until("299") == [str(number) for number in range(299)]


async def test_sends_wait_in_line_behind_broadcasts_while_the_client_does_not_read(
    rooms: RoomManager,
) -> None:
    sockets: list[Socket] = []
    async with WebSocketClient(app_of(_member(rooms, sockets))) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [socket] = sockets
        client.stall()
        sends = []
        for number in range(0, 10, 2):
            await rooms.to("lobby").send_text(str(number))
            sends.append(asyncio.ensure_future(socket.send_text(str(number + 1))))
            await asyncio.sleep(0)
        assert not any(send.done() for send in sends)
        client.resume()
        await asyncio.gather(*sends)
        assert [await client.receive_text() for _ in range(10)] == [str(n) for n in range(10)]


async def test_a_send_that_waits_for_a_client_that_goes_is_a_disconnect(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    sockets: list[Socket] = []
    async with WebSocketClient(app_of(_member(rooms, sockets))) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [socket] = sockets
        client.stall()
        sends = [asyncio.ensure_future(socket.send_text(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        client.leave(1006)
        for send in sends:
            with pytest.raises(WebSocketDisconnect):
                await send
        await client.wait_ended()
    await _nothing_is_left(rooms, adapter)
