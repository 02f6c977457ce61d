"""A manager that leaves: nobody comes in any more, and everyone inside is seen out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import NotStarted, OutboxPolicy, RoomManager, ShuttingDown, Socket
from fastapi_rooms.core import drain_schedule as departures_module
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.drain import Drain
from tests.unit.support import FakeAdapter, all_is_over, app_of, other_tasks

FOR_EVER = 600


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, and gives every client the time it needs."""
    async with RoomManager(adapter, linger=0, drain_timeout=FOR_EVER) as rooms:
        yield rooms


# Draining.


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


async def test_whoever_leaves_is_still_in_its_rooms_until_its_endpoint_ends(
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
    assert left == [{"lobby"}]
    assert rooms.rooms == {}


async def test_a_goodbye_of_one_who_leaves_reaches_those_who_are_still_there(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(departures_module, "CLOSES_PER_SECOND", 20)

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


async def test_clients_leave_one_after_the_other_when_there_are_many(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(departures_module, "CLOSES_PER_SECOND", 50)
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


async def test_a_worker_that_leaves_is_not_ready(rooms: RoomManager) -> None:
    async with Member(rooms) as ann:
        ann.stall()
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready, what="not ready from the beginning on")
        assert rooms.health.connected
        ann.resume()
        await draining
    assert rooms.health.ready is False


async def test_whoever_connects_to_a_worker_that_leaves_is_sent_elsewhere(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    await rooms.drain()
    late = Member(rooms, "lobby")
    with pytest.raises(WebSocketDisconnect) as turned_away:
        await late.open()
    assert (turned_away.value.code, turned_away.value.reason) == (1012, "service restart")
    assert not caplog.records
    await all_is_over(rooms)


async def test_whoever_is_on_the_way_in_when_the_worker_leaves_is_sent_elsewhere(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    late = asyncio.create_task(Member(rooms, "lobby").open())
    await eventually(lambda: adapter.waiting)
    await rooms.drain()
    adapter.let_go()
    with pytest.raises(WebSocketDisconnect) as turned_away:
        await late
    assert turned_away.value.code == 1012
    await all_is_over(rooms)
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")


async def test_nobody_joins_or_listens_on_a_worker_that_leaves(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(
        departures_module, "CLOSES_PER_SECOND", 1e-9
    )  # nobody's turn comes in this test
    rooms = RoomManager(adapter, linger=0, drain_window=1e9)

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            async for room in socket.iter_text():
                await socket.join(room)

    app = app_of(endpoint)
    async with rooms, WebSocketClient(app) as ann, WebSocketClient(app) as bob:
        await eventually(lambda: len(rooms.sids) == 2)
        adapter.hold_up()
        await bob.send_text("on its way")
        await eventually(lambda: adapter.waiting)
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        with pytest.raises(ShuttingDown, match="shutting down"):
            async with rooms.listen("lobby"):
                pytest.fail("it listens")
        await ann.send_text("lobby")
        adapter.let_go()
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


async def test_a_client_that_goes_before_its_turn_holds_up_nobody(rooms: RoomManager) -> None:
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


async def test_an_endpoint_that_drains_its_own_worker_is_let_go_as_well(
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


async def test_a_guest_that_cannot_be_seen_out_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen_out: list[float] = []

    async def fails(timeout: float) -> None:
        raise ValueError("broken")

    async def works(timeout: float) -> None:
        seen_out.append(timeout)

    leaving = Drain(lambda: [fails, works], departures_module.DrainSchedule(0, 7))
    await leaving.wait()
    assert seen_out == [7]
    assert "could not be closed" in caplog.text


# Closing.


async def test_closing_the_manager_sees_out_who_is_still_inside(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = RoomManager(adapter, drain_timeout=FOR_EVER)
    events: list[tuple[str, ...]] = []
    rooms.on("leave-room")(lambda room, sid: events.append(("leave-room", room)))
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


async def test_who_cannot_be_seen_out_is_announced_to_have_left_all_the_same() -> None:
    rooms = RoomManager(drain_timeout=0.01, linger=0)
    events: list[str] = []
    rooms.on("leave-room")(lambda room, sid: events.append("leave-room"))
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
    rooms = RoomManager(adapter, drain_timeout=FOR_EVER)
    finished: list[Any] = []

    @rooms.on("disconnect")
    async def goodbye(socket: Socket) -> None:
        await asyncio.sleep(0.01)
        await rooms.to("lobby").send_text("somebody has left")
        finished.append(socket)

    await rooms.__aenter__()
    async with Member(rooms, "lobby") as ann:
        await rooms.__aexit__()
        assert finished == [ann.socket]
    assert len(adapter.published) == 1
    assert not other_tasks()


async def test_a_close_that_is_cancelled_while_clients_are_seen_out_leaves_nothing(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rooms = RoomManager(adapter, drain_timeout=FOR_EVER)
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


async def test_a_client_that_is_given_up_while_the_worker_leaves_holds_up_nobody() -> None:
    outbox = OutboxPolicy(max_bytes=10, overflow="close")
    async with (
        RoomManager(outbox=outbox, drain_timeout=FOR_EVER, linger=0) as rooms,
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
