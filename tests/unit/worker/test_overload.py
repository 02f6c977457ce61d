"""What cannot be written as fast as it arrives is dropped, counted, and told by a gap."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from fastapi_rooms import Gap, RoomManager
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker import overload as overload_module
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX, WRITE_BYTES
from fastapi_rooms.worker.overload import IN_TRANSIT
from tests.unit.support import FakeAdapter, broadcast, channel_of

LOBBY = channel_of("lobby")
_numbers = itertools.count(1)


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, on an adapter in the test's hands."""
    async with RoomManager(adapter, linger=0) as rooms:
        yield rooms


@pytest.fixture
def gaps(rooms: RoomManager, monkeypatch: pytest.MonkeyPatch) -> list[Gap]:
    """The gaps that are told, without much of a wait."""
    monkeypatch.setattr(overload_module, "TOLD_AFTER", 0.01)
    gaps: list[Gap] = []
    rooms.on("gap")(gaps.append)
    return gaps


async def _crowd(stack: AsyncExitStack, rooms: RoomManager, *names: str) -> list[Member]:
    return [
        await stack.enter_async_context(Member(rooms, *names)) for _ in range(IMMEDIATE_MAX + 1)
    ]


def _receive(adapter: FakeAdapter, text: str, target: Target) -> None:
    assert adapter.receiver is not None
    adapter.receiver.received(LOBBY, codec.encode(broadcast(next(_numbers), target, text)))


def _flood(adapter: FakeAdapter, rooms: RoomManager, target: Target) -> int:
    """Send from another worker until the first message is dropped; how many were not."""
    before, taken = rooms.health.dropped, 0
    while rooms.health.dropped == before:
        _receive(adapter, "x" * 100_000, target)
        taken += 1
        assert taken < 10_000
    return taken - 1


async def test_what_is_dropped_is_counted_and_told_by_a_gap_of_its_rooms(
    adapter: FakeAdapter,
    rooms: RoomManager,
    gaps: list[Gap],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncExitStack() as stack:
        await _crowd(stack, rooms, "lobby")
        begin = time.time()
        _flood(adapter, rooms, Target(("lobby", "not here")))
        await eventually(lambda: gaps)
        (gap,) = gaps
        assert gap.rooms == ("lobby",)
        assert gap.namespace is rooms
        assert begin - IN_TRANSIT <= gap.since <= begin
        assert begin <= gap.until <= time.time()
        assert rooms.health.dropped == 1
        assert rooms.health.ready
        await eventually(lambda: len(caplog.records) >= 2)
    first, last = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert "arrive faster than this worker can write them" in first
    assert "as fast as they arrive again; 1 were dropped" in last


async def test_a_message_to_everyone_that_is_dropped_is_a_gap_of_every_room(
    adapter: FakeAdapter, rooms: RoomManager, gaps: list[Gap]
) -> None:
    async with AsyncExitStack() as stack:
        await _crowd(stack, rooms, "lobby", "bar")
        _flood(adapter, rooms, Target())
        _receive(adapter, "x" * 100_000, Target(("lobby",)))
        await eventually(lambda: gaps)
        assert [set(gap.rooms) for gap in gaps] == [{"bar", "lobby"}]


async def test_one_to_a_single_socket_is_a_gap_without_rooms(
    adapter: FakeAdapter, rooms: RoomManager, gaps: list[Gap]
) -> None:
    async with AsyncExitStack() as stack:
        crowd = await _crowd(stack, rooms, "lobby")
        sid = crowd[0].socket.sid
        _flood(adapter, rooms, Target(("lobby",)))
        await eventually(lambda: gaps)
        rooms._runtime.run.overload.dropped(rooms._here, Target((sid,)))
        await eventually(lambda: len(gaps) == 2)
        assert [gap.rooms for gap in gaps] == [("lobby",), ()]


async def test_as_long_as_it_lasts_it_is_told_again_and_logged_once(
    rooms: RoomManager, gaps: list[Gap], caplog: pytest.LogCaptureFixture
) -> None:
    overload = rooms._runtime.run.overload
    async with Member(rooms, "lobby"):
        while len(gaps) < 5:
            overload.dropped(rooms._here, Target(("lobby",)))
            await asyncio.sleep(0)
        assert len([r for r in caplog.records if "arrive faster" in r.getMessage()]) == 1
        assert all(a.until <= b.until for a, b in itertools.pairwise(gaps))


async def test_other_namespaces_are_told_nothing(
    adapter: FakeAdapter, rooms: RoomManager, gaps: list[Gap]
) -> None:
    elsewhere: list[Gap] = []
    chat = rooms.of("/chat")
    chat.on("gap")(elsewhere.append)
    async with AsyncExitStack() as stack:
        await _crowd(stack, rooms, "lobby")
        await stack.enter_async_context(Member(chat, "lobby"))
        _flood(adapter, rooms, Target(("lobby",)))
        await eventually(lambda: gaps)
        assert elsewhere == []


async def test_a_listener_hears_what_the_sockets_of_its_room_do_not(
    adapter: FakeAdapter, rooms: RoomManager, gaps: list[Gap]
) -> None:
    async with AsyncExitStack() as stack:
        await _crowd(stack, rooms, "lobby")
        _flood(adapter, rooms, Target(("lobby",)))
        async with rooms.listen("lobby") as messages:
            _receive(adapter, "y" * 500_000, Target(("lobby",)))
            assert (await anext(messages)).text[0] == "y"
        await eventually(lambda: gaps)


async def test_closing_the_manager_in_the_midst_of_it_tells_nobody(
    adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with RoomManager(adapter, linger=0) as rooms, Member(rooms, "lobby"):
        rooms._runtime.run.overload.dropped(rooms._here, Target(("lobby",)))
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_what_is_volatile_does_not_wait_for_room_but_is_skipped(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    async with (
        RoomManager(adapter, linger=0, max_lag=0.001) as rooms,
        AsyncExitStack() as stack,
    ):
        crowd = await _crowd(stack, rooms, "lobby")
        lobby, word = rooms.to("lobby"), "x" * WRITE_BYTES
        sends = []
        while not rooms._runtime.run.fanout.is_full:
            sends.append(asyncio.create_task(lobby.send_text(word)))
            await asyncio.sleep(0)
        await lobby.volatile.send_text("typing")
        assert not any(send.done() for send in sends)
        assert len(adapter.published_volatile) == 1
        await asyncio.gather(*sends)
        await lobby.send_text("end")
        for member in crowd:
            assert await member.receive_until("end") == [word] * len(sends)
