"""The manager, started and closed."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from dataclasses import replace
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import (
    AdapterUnavailable,
    MemoryAdapter,
    MemoryBus,
    NotStarted,
    RoomManager,
    Socket,
)
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from tests.unit.support import FakeAdapter, all_is_over, app_of, other_tasks


async def test_it_runs_for_the_time_of_the_block() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms as entered:
        assert entered is rooms
        assert rooms.health.ready
        assert adapter.starts == 1
    assert adapter.closes == 1
    assert rooms.health.ready is False


async def test_the_lifespan_is_the_same_for_an_application() -> None:
    rooms = RoomManager()
    async with rooms.lifespan(object()):
        assert rooms.health.ready
    async with rooms.lifespan():
        await rooms.send_text("runs")


async def test_closing_leaves_no_task_and_no_subscription() -> None:
    bus = MemoryBus()
    rooms = RoomManager(MemoryAdapter(bus))
    rooms.on("join-room")(lambda room, socket: rooms.to(room).send_text("welcome"))
    async with rooms:
        async with Member(rooms, "lobby") as member, rooms.listen("lobby"):
            assert await member.receive_text() == "welcome"
            assert bus.subscriptions(b"rooms#/#lobby#") == 1
        await rooms.of("/chat").send_text("x")
    assert not other_tasks()
    for channel in (b"rooms#/#lobby#", b"rooms#/#", b"rooms#/chat#"):
        assert bus.subscriptions(channel) == 0


async def test_who_is_left_by_a_stop_that_was_cut_short_is_not_in_the_next_run() -> None:
    rooms, may_end, left = RoomManager(), asyncio.Event(), list[str]()
    rooms.on("disconnect")(lambda socket: left.append(socket.sid))

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket, sid="ann") as socket:
            await socket.join("lobby")
            await may_end.wait()

    await rooms.__aenter__()
    async with WebSocketClient(app_of(endpoint)):
        await eventually(lambda: "lobby" in rooms.rooms)
        stopping = asyncio.create_task(rooms.__aexit__(None, None, None))
        await eventually(lambda: not rooms.health.ready)
        stopping.cancel()
        await asyncio.wait((stopping,))
        assert stopping.cancelled()
        async with rooms:
            assert not rooms.rooms
            assert left == ["ann"]
            may_end.set()


async def test_it_can_be_started_again_as_another_worker() -> None:
    rooms = RoomManager(linger=0)
    workers = set()
    for _ in range(3):
        async with rooms, Member(rooms, "lobby") as member:
            workers.add(member.sid.partition(".")[0])
            await rooms.to("lobby").send_text("hello")
            assert await member.receive_text() == "hello"
    assert len(workers) == 3
    assert not other_tasks()


async def test_started_twice_at_a_time_it_runs_until_both_are_over() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms:
        async with Member(rooms, "lobby") as member:
            async with rooms:
                pass
            await rooms.to("lobby").send_text("still here")
            assert await member.receive_text() == "still here"
        assert (adapter.starts, adapter.closes) == (1, 0)
    assert (adapter.starts, adapter.closes) == (1, 1)


def test_two_who_start_it_at_once_start_it_once_in_one_event_loop_after_the_other() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    start = adapter.start

    async def slow_start(*args: Any) -> None:
        await asyncio.sleep(0)
        await start(*args)

    async def twice_at_once() -> None:
        before = adapter.starts
        await asyncio.gather(rooms.__aenter__(), rooms.__aenter__())
        assert adapter.starts == before + 1
        await rooms.__aexit__()
        assert rooms.health.ready
        await rooms.__aexit__()
        assert adapter.closes == adapter.starts

    adapter.start = slow_start  # type: ignore[method-assign, assignment]
    for _ in range(2):
        asyncio.run(twice_at_once())


async def test_a_start_that_fails_can_be_tried_again() -> None:
    adapter = FakeAdapter()
    adapter.start_error = AdapterUnavailable("wrong password")
    rooms = RoomManager(adapter)
    with pytest.raises(AdapterUnavailable, match="wrong password"):
        async with rooms:
            pytest.fail("it did not start")
    with pytest.raises(NotStarted):
        await rooms.send_text("x")
    adapter.start_error = None
    async with rooms:
        await rooms.send_text("x")
    assert (adapter.starts, adapter.closes) == (1, 2)  # the start that failed was closed as well


async def test_an_error_in_the_block_closes_it_and_goes_on() -> None:
    adapter = FakeAdapter()
    with pytest.raises(ValueError, match="mine"):
        async with RoomManager(adapter):
            raise ValueError("mine")
    assert adapter.closes == 1


async def test_a_close_that_is_cancelled_closes_the_adapter_all_the_same() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, drain_timeout=0.01)
    cancelled, may_end = asyncio.Event(), asyncio.Event()

    @rooms.on("connect")
    async def stubborn(socket: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await may_end.wait()

    await rooms.__aenter__()
    async with Member(rooms):
        await eventually(other_tasks)
    closing = asyncio.ensure_future(rooms.__aexit__())
    await cancelled.wait()
    closing.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert adapter.closes == 1


async def test_health_tells_what_the_adapter_knows() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms:
        assert rooms.health.connected
        assert rooms.health.since == adapter.health.since
        adapter.health = replace(adapter.health, connected=False, buffered=7)
        assert rooms.health.ready is False
        assert rooms.health.buffered == 7


async def test_a_closed_manager_is_not_kept_alive() -> None:
    bus = MemoryBus()

    async def used() -> weakref.ref[RoomManager]:
        rooms = RoomManager(MemoryAdapter(bus))
        async with rooms, Member(rooms, "lobby") as member:
            await rooms.to("lobby").send_text("hello")
            assert await member.receive_text() == "hello"
        return weakref.ref(rooms)

    manager = await used()
    await eventually(lambda: not other_tasks())
    gc.collect()
    assert manager() is None


# Closing drains.


FOREVER = 600


async def test_closing_the_manager_drains_the_clients_that_are_connected(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = RoomManager(adapter, drain_timeout=FOREVER)
    events: list[tuple[str, ...]] = []
    rooms.on("leave-room")(lambda room, socket: events.append(("leave-room", room)))
    rooms.on("delete-room")(lambda room: events.append(("delete-room", room)))
    rooms.on("disconnect")(lambda socket: events.append(("disconnect", socket.sid)))
    await rooms.__aenter__()
    ann = Member(rooms, "lobby")
    await ann.open()
    await rooms.__aexit__()
    assert await ann.wait_closed() == 1012
    await ann.wait_ended()
    assert events == [("leave-room", "lobby"), ("delete-room", "lobby"), ("disconnect", ann.sid)]
    assert adapter.closes == 1
    assert not caplog.records
    await all_is_over(rooms)


async def test_a_client_that_cannot_be_drained_is_told_of_as_having_left_all_the_same() -> None:
    rooms = RoomManager(drain_timeout=0.01, linger=0)
    events: list[str] = []
    rooms.on("leave-room")(lambda room, socket: events.append("leave-room"))
    rooms.on("disconnect")(lambda socket: events.append("disconnect"))
    may_end = asyncio.Event()

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            await may_end.wait()  # reads nothing, so it does not notice

    await rooms.__aenter__()
    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        await rooms.__aexit__()
        assert events == ["leave-room", "disconnect"]
        assert await client.wait_closed() == 1012
        may_end.set()
        await client.wait_ended()
    assert events == ["leave-room", "disconnect"]
    await all_is_over(rooms)


async def test_async_handlers_of_the_last_events_finish_and_may_still_send(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, drain_timeout=FOREVER)
    finished: list[Any] = []

    @rooms.on("disconnect")
    async def say_so(socket: Socket) -> None:
        for _ in range(10):  # so that the manager has to wait for it
            await asyncio.sleep(0)
        await rooms.to("lobby").send_text("somebody has left")
        finished.append(socket)

    await rooms.__aenter__()
    async with Member(rooms, "lobby") as ann:
        await rooms.__aexit__()
        assert finished == [ann.socket]
    assert len(adapter.published) == 1
    assert not other_tasks()


async def test_a_close_that_is_cancelled_while_draining_leaves_nothing(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rooms = RoomManager(adapter, drain_timeout=FOREVER)
    await rooms.__aenter__()
    async with Member(rooms, "lobby") as mute:
        mute.stall()
        closing = asyncio.create_task(rooms.__aexit__())
        await eventually(lambda: "Draining: 1 clients" in caplog.text)
        closing.cancel()
        await asyncio.wait((closing,))
        assert closing.cancelled()
        assert adapter.closes == 1
        mute.leave()
    await eventually(lambda: not other_tasks())
