"""A client that does not read is closed, and its endpoint ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.worker import connection as connection_module
from tests.unit.support import FakeAdapter, app_of
from tests.unit.worker.support import (
    BOUND,
    LARGE,
    bounded_manager,
    echo_endpoint,
    nothing_is_left,
    overfill,
    until_gone,
)


async def test_a_client_that_does_not_read_is_closed_with_1013_and_its_endpoint_ends(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    rooms = bounded_manager(adapter)
    async with rooms:
        app = app_of(echo_endpoint(rooms))
        async with WebSocketClient(app) as slow, WebSocketClient(app) as quick:
            await eventually(lambda: len(rooms.rooms.get("lobby", ())) == 2)
            slow.stall()
            await overfill(rooms)
            for number in range(5):
                assert await quick.receive_text() == f"{number}{LARGE}"
            await eventually(lambda: len(rooms.rooms["lobby"]) == 1, what="it is out at once")
            slow.resume()
            assert await slow.wait_closed() == 1013
            assert slow.close_reason == "too slow"
            await slow.wait_ended()
        assert f"more than {BOUND} bytes waited for it to read" in caplog.text
        await nothing_is_left(rooms, adapter)


async def test_a_client_that_never_reads_again_does_not_keep_its_endpoint(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = bounded_manager(adapter)
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await until_gone(socket)
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await overfill(rooms)
            await client.wait_ended()
        assert after == ["went on"], "the block ends quietly, whatever ended it"
        await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("after_all", [WebSocketClient.leave, WebSocketClient.resume])
async def test_a_slow_client_that_goes_or_reads_after_all_ends_its_endpoint_by_that(
    adapter: FakeAdapter, after_all: Callable[[WebSocketClient], None]
) -> None:
    rooms = bounded_manager(adapter)
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
            await overfill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            after_all(client)
            await client.wait_ended()
        await nothing_is_left(rooms, adapter)
    [end] = ends
    assert isinstance(end, WebSocketDisconnect), "and not by force"


async def test_a_slow_client_is_told_before_its_endpoint_is_over(adapter: FakeAdapter) -> None:
    rooms = bounded_manager(adapter)
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
            await overfill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            await client.send_text("that is all")
            await eventually(lambda: read)
            assert after == []
            client.resume()
            await client.wait_ended()
            assert client.close_code == 1013
            assert after == ["went on"]
        await nothing_is_left(rooms, adapter)


async def test_a_slow_client_that_cannot_be_told_does_not_keep_an_endpoint_that_is_over(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.05)
    rooms = bounded_manager(adapter)
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
            await overfill(rooms)
            await client.send_text("that is all")
            await client.wait_ended()
            assert after == ["went on"]
        await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_is_cancelled_while_its_slow_client_is_told_leaves_no_task(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 600)
    rooms = bounded_manager(adapter)
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
        await overfill(rooms)
        await eventually(lambda: "lobby" not in rooms.rooms)
        await client.send_text("that is all")
        await eventually(lambda: read)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
        await nothing_is_left(rooms, adapter)


@pytest.mark.parametrize("grouped", [False, True])
async def test_an_endpoint_that_is_cancelled_does_not_wait_for_its_slow_client_to_be_told(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 600)
    rooms = bounded_manager(adapter)
    tasks: list[asyncio.Task[Any] | None] = []

    async def endpoint(websocket: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            if grouped:
                async with asyncio.TaskGroup() as group:
                    group.create_task(until_gone(socket))
            else:
                await until_gone(socket)

    async with rooms, WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        client.stall()
        await overfill(rooms)
        await eventually(lambda: "lobby" not in rooms.rooms)
        [task] = tasks
        assert task is not None
        task.cancel()
        await client.wait_ended()
        assert task.cancelled()
        await nothing_is_left(rooms, adapter)


async def test_an_endpoint_that_outlived_a_cancellation_ends_quietly_with_its_slow_client(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = bounded_manager(adapter)
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await until_gone(socket)
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await overfill(rooms)
            await client.wait_ended()
        assert after == ["went on"]
        await nothing_is_left(rooms, adapter)


async def test_a_slow_client_whose_endpoint_ends_at_that_moment_is_not_closed_as_well(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    rooms, may_end = bounded_manager(adapter), asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await may_end.wait()
            for _ in range(5):  # without a pause, so that the block is over before it is told
                rooms._here.receive(Target(("lobby",)), Payload.of_text(LARGE), volatile=False)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            may_end.set()
            await client.wait_ended()
        await nothing_is_left(rooms, adapter)
    assert not caplog.records


async def test_a_cancellation_from_outside_wins_over_the_one_for_a_slow_client(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.01)
    rooms = bounded_manager(adapter)
    tasks: list[asyncio.Task[Any] | None] = []
    after = []

    async def endpoint(websocket: WebSocket) -> None:
        task = asyncio.current_task()
        tasks.append(task)
        assert task is not None
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            try:
                await until_gone(socket)
            finally:
                task.cancel()  # somebody else's, while the first is on its way
        after.append("went on")

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await overfill(rooms)
            await client.wait_ended()
        [task] = tasks
        assert task is not None
        assert task.cancelled()
        assert after == []
        await nothing_is_left(rooms, adapter)


async def test_a_slow_client_whose_endpoint_still_has_something_to_do_ends_quietly(
    adapter: FakeAdapter,
) -> None:
    rooms = bounded_manager(adapter)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            async for room in socket.iter_text():
                await socket.join(room)

    async with rooms:
        async with WebSocketClient(app_of(endpoint)) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            client.stall()
            await overfill(rooms)
            await eventually(lambda: "lobby" not in rooms.rooms)
            await client.send_text("another room")
            client.resume()
            await client.wait_ended()  # and does not raise SocketClosed: its client did this
        await nothing_is_left(rooms, adapter)
