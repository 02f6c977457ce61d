"""A worker drains: nobody comes in any more, and every client is closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import suppress

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import NotStarted, OutboxPolicy, RoomManager, ShuttingDown, Socket
from fastapi_rooms.core import drain_schedule as schedule_module
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.drain import Drain
from tests.unit.support import FakeAdapter, all_is_over, app_of, other_tasks

FOREVER = 600


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, and gives every client the time it needs."""
    async with RoomManager(adapter, linger=0, drain_timeout=FOREVER) as rooms:
        yield rooms


async def test_draining_closes_everyone_in_every_namespace_behind_what_was_sent(
    rooms: RoomManager,
) -> None:
    chat = rooms.of("/chat")
    async with Member(rooms, "lobby") as ann, Member(chat, "lobby") as bob:
        await rooms.to("lobby").send_text("to ann")
        await chat.to("lobby").send_text("to bob")
        await rooms.drain()
        for member, message in ((ann, "to ann"), (bob, "to bob")):
            assert await member.wait_closed() == 1012
            assert member.close_reason == "service restart"
            assert member.unread == [message]
            await member.wait_ended()
        assert rooms.sids == chat.sids == {}
    await all_is_over(rooms)


async def test_what_a_large_room_was_sent_just_before_arrives_before_the_close(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout_module, "IMMEDIATE_MAX", 1)
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    members = [Member(rooms, "lobby") for _ in range(4)]
    for member in members:
        await member.open()
    sending = asyncio.create_task(rooms.to("lobby").send_text("before"))
    await asyncio.sleep(0)
    await rooms.drain()
    await sending
    for member in members:
        assert await member.wait_closed() == 1012
        assert member.unread == ["before"]
        await member.close()


async def test_a_drained_client_has_left_its_rooms_when_its_endpoint_ends(
    rooms: RoomManager,
) -> None:
    left: list[AbstractSet[str]] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            try:
                async for _ in socket.iter_text():
                    pass
            finally:
                left.append(socket.rooms - {socket.sid})

    async with WebSocketClient(app_of(endpoint)) as ann:
        await eventually(lambda: "lobby" in rooms.rooms)
        drained = asyncio.create_task(rooms.drain())
        assert await ann.wait_closed() == 1012
        await drained
    assert left == [set()]
    assert rooms.rooms == {}


async def test_what_an_endpoint_sends_at_its_end_reaches_clients_that_are_still_connected(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(schedule_module, "CLOSES_PER_SECOND", 1)
    # So that Bob is closed a second after Ann, and not at some moment in it.
    monkeypatch.setattr("fastapi_rooms.worker.drain.random.random", lambda: 0.0)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            async for _ in socket.iter_text():
                pass
            await socket.to("lobby").send_text("ann has left")

    async with WebSocketClient(app_of(endpoint)) as ann:
        await eventually(lambda: "lobby" in rooms.rooms)
        async with Member(rooms, "lobby") as bob:
            drained = asyncio.create_task(rooms.drain())
            assert await ann.wait_closed() == 1012
            assert await bob.receive_text() == "ann has left"
            assert await bob.wait_closed() == 1012
            await drained


async def test_many_clients_are_closed_one_after_the_other(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(schedule_module, "CLOSES_PER_SECOND", 50)
    left: list[str] = []
    inside: list[int] = []

    @rooms.on("disconnect")
    def count(socket: Socket) -> None:
        left.append(socket.sid)
        inside.append(len(rooms.sids))

    members = [Member(rooms, "lobby") for _ in range(8)]
    for member in members:
        await member.open()
    await rooms.drain()
    assert left == [member.sid for member in members]
    assert inside == [7, 6, 5, 4, 3, 2, 1, 0]
    for member in members:
        assert await member.wait_closed() == 1012
        await member.close()


async def test_a_draining_worker_is_not_ready(rooms: RoomManager) -> None:
    async with Member(rooms) as ann:
        ann.stall()
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready, what="not ready from the beginning on")
        assert rooms.health.connected
        ann.resume()
        await draining
    assert rooms.health.ready is False


async def test_a_client_that_connects_to_a_draining_worker_is_turned_away(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    await rooms.drain()
    late = Member(rooms, "lobby")
    with pytest.raises(WebSocketDisconnect) as turned_away:
        await late.open()
    assert (turned_away.value.code, turned_away.value.reason) == (1012, "service restart")
    assert not caplog.records
    await all_is_over(rooms)


async def test_a_client_that_is_connecting_when_the_drain_begins_is_turned_away(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.hold()
    late = asyncio.create_task(Member(rooms, "lobby").open())
    await eventually(lambda: adapter.waiting)
    await rooms.drain()
    adapter.release()
    with pytest.raises(WebSocketDisconnect) as turned_away:
        await late
    assert turned_away.value.code == 1012
    await all_is_over(rooms)
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")


async def test_nobody_joins_or_listens_on_a_draining_worker(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "IMMEDIATE_MAX", 0)
    # Nobody's turn comes in this test.
    monkeypatch.setattr(schedule_module, "CLOSES_PER_SECOND", 1e-9)
    rooms = RoomManager(adapter, linger=0, drain_window=1e9)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for room in socket.iter_text():
                await socket.join(room)

    app = app_of(endpoint)
    async with rooms, WebSocketClient(app) as ann, WebSocketClient(app) as bob:
        await eventually(lambda: len(rooms.sids) == 2)
        adapter.hold()
        await bob.send_text("on its way")
        await eventually(lambda: adapter.waiting)
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        with pytest.raises(ShuttingDown, match="shutting down"):
            async with rooms.listen("lobby"):
                pytest.fail("it listens")
        await ann.send_text("lobby")
        adapter.release()
        for client in (ann, bob):
            assert await client.wait_closed() == 1012
            assert client.close_reason == "service restart"
            await client.wait_ended()
        assert rooms.rooms == {}
        draining.cancel()
        await asyncio.wait((draining,))


async def test_listeners_end_behind_what_has_arrived(rooms: RoomManager) -> None:
    async with rooms.listen("lobby") as messages:
        await rooms.to("lobby").send_text("before")
        await rooms.drain()
        assert [message.text async for message in messages] == ["before"]


async def test_a_client_that_does_not_read_is_waited_for_no_longer_than_the_timeout() -> None:
    async with RoomManager(drain_timeout=0.01, linger=0) as rooms, Member(rooms, "lobby") as mute:
        mute.stall()
        await rooms.to("lobby").send_text("never read")
        await rooms.drain()
        assert mute.unread == []
        mute.leave()
        await mute.wait_ended()
    assert not other_tasks()


async def test_a_client_that_reads_again_in_time_misses_nothing(rooms: RoomManager) -> None:
    async with Member(rooms, "lobby") as slow:
        slow.stall()
        for number in range(5):
            await rooms.to("lobby").send_text(str(number))
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        slow.resume()
        assert await slow.wait_closed() == 1012
        assert slow.unread == ["0", "1", "2", "3", "4"]
        await draining


async def test_a_client_that_goes_before_its_turn_delays_no_other(rooms: RoomManager) -> None:
    async with Member(rooms) as ann, Member(rooms) as bob:
        ann.stall()
        draining = asyncio.create_task(rooms.drain())
        assert await bob.wait_closed() == 1012
        ann.leave(1001)
        await draining


async def test_draining_twice_is_draining_once(rooms: RoomManager) -> None:
    async with Member(rooms) as ann:
        await asyncio.gather(rooms.drain(), rooms.drain())
        assert await ann.wait_closed() == 1012
    await rooms.drain()


async def test_an_endpoint_that_drains_its_own_worker_is_closed_as_well(
    rooms: RoomManager,
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.receive_text()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await rooms.drain()
            await socket.receive_text()

    async with WebSocketClient(app_of(endpoint)) as client:
        await client.send_text("go")
        assert await client.wait_closed() == 1012
        await client.wait_ended()


async def test_a_manager_that_does_not_run_cannot_be_drained() -> None:
    with pytest.raises(NotStarted):
        await RoomManager().drain()


async def test_a_manager_that_was_drained_can_be_closed_and_started_again() -> None:
    rooms = RoomManager(linger=0)
    for _ in range(2):
        async with rooms, Member(rooms, "lobby") as ann:
            await rooms.to("lobby").send_text("hello")
            assert await ann.receive_text() == "hello"
            await rooms.drain()
    assert not other_tasks()


async def test_a_client_that_cannot_be_closed_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    drained: list[float] = []

    async def fails(timeout: float) -> None:
        raise ValueError("broken")

    async def works(timeout: float) -> None:
        drained.append(timeout)

    drain = Drain(lambda: [fails, works], schedule_module.DrainSchedule(0, 7))
    await drain.wait()
    assert drained == [7]
    assert "could not be closed" in caplog.text


async def test_a_client_whose_outbox_overflows_during_a_drain_delays_no_other() -> None:
    outbox = OutboxPolicy(max_bytes=10, overflow="close")
    async with (
        RoomManager(outbox=outbox, drain_timeout=FOREVER, linger=0) as rooms,
        Member(rooms, "lobby") as slow,
    ):
        slow.stall()
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        for _ in range(5):
            await rooms.to("lobby").send_text("too much of it")
        slow.resume()
        assert await slow.wait_closed() in {1012, 1013}
        await draining
    assert not other_tasks()


async def test_draining_a_worker_without_clients_is_over_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastapi_rooms")
    await Drain(list, schedule_module.DrainSchedule(FOREVER, FOREVER)).wait()
    assert not caplog.records
    await Drain(lambda: [_drained_at_once], schedule_module.DrainSchedule(0, 1)).wait()
    assert "1 clients and listeners" in caplog.text


async def _drained_at_once(timeout: float) -> None: ...


async def test_a_drain_that_is_cancelled_closes_nobody_any_more() -> None:
    drained: list[float] = []

    async def drain_one(timeout: float) -> None:
        drained.append(timeout)

    drain = Drain(lambda: [drain_one], schedule_module.DrainSchedule(0, 1))
    drain.cancel()
    await drain.wait()
    assert drained == []


async def test_a_server_that_stops_during_a_long_drain_shortens_it() -> None:
    async with (
        RoomManager(drain_window=FOREVER, drain_timeout=FOREVER) as rooms,
        Member(rooms, "lobby") as mute,
    ):
        mute.stall()
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        assert rooms._runtime.run.begin_drain(0.05) == pytest.approx(0.015)
        await draining
        assert rooms._runtime.run.begin_drain(FOREVER) == pytest.approx(0.015)
        mute.leave()
