"""How a `rooms.connect` block ends: quietly when its client goes, and with nothing left."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, RoomManager, Socket, SocketClosed
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker import causes as causes_module
from tests.unit.support import FakeAdapter, all_is_over, app_of, channel_of
from tests.unit.worker.support import echo_endpoint, nothing_is_left, until_gone


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
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_has_left_and_stays_cancelled(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    tasks: list[asyncio.Task[Any] | None] = []
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await until_gone(socket)
        after.append("went on")

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
    assert after == []
    await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("outcome", ["confirmed", "refused", "timed out"])
async def test_a_client_that_goes_while_a_join_waits_leaves_nothing(
    adapter: FakeAdapter, outcome: str
) -> None:
    timeout = 0.05 if outcome == "timed out" else 60
    async with RoomManager(adapter, linger=0, join_timeout=timeout) as rooms:
        async with WebSocketClient(app_of(echo_endpoint(rooms))) as client:
            await eventually(lambda: rooms.sids)
            adapter.hold()
            await eventually(lambda: channel_of("lobby") in adapter.subscribed)
            client.leave(1006)
            if outcome == "refused":
                adapter.subscribe_error = AdapterUnavailable("no")
            if outcome != "timed out":
                adapter.release()
            await client.wait_ended()
        await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_while_a_join_waits_leaves_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.hold()
    joining: list[asyncio.Task[Any] | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        joining.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")

    async with WebSocketClient(app_of(endpoint)) as client:
        adapter.release()
        adapter.hold()
        await eventually(lambda: adapter.waiting)
        [task] = joining
        assert task is not None
        task.cancel()
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


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
        monkeypatch.setattr(causes_module, "websockets", SimpleNamespace())

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await websocket.close(4000)
            await until_gone(socket)
            await (websocket.send_text("x") if use == "send_text" else websocket.receive_text())

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


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
    await nothing_is_left(rooms, adapter)


async def test_a_socket_whose_block_is_over_can_be_asked_but_joins_nothing(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid="ann") as socket:
            await socket.join("lobby")
        assert socket.rooms == set()
        adapter.hold()  # it is told at once, and the adapter is not asked
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
            await until_gone(socket)

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
