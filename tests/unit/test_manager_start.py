"""The manager, started by hand, and refused where that is a mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from fastapi_rooms import (
    Adapter,
    AdapterUnavailable,
    ConfigurationError,
    MemoryAdapter,
    NotStarted,
    RoomManager,
    UsageError,
)
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter, other_tasks


async def test_it_starts_and_stops_by_hand() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    for number in (1, 2):
        await rooms.start()
        async with Member(rooms, "lobby") as member:
            await rooms.to("lobby").send_text("hello")
            assert await member.receive_text() == "hello"
        await rooms.stop()
        await rooms.stop()
        assert (adapter.starts, adapter.closes) == (number, number)
        with pytest.raises(NotStarted):
            await rooms.send_text("x")
    assert not other_tasks()


async def test_a_second_start_is_refused_and_harms_nothing() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    await rooms.start()
    with pytest.raises(UsageError, match="running already"):
        await rooms.start()
    await rooms.send_text("x")
    await rooms.stop()
    async with rooms:
        with pytest.raises(UsageError, match="running already"):
            await rooms.start()
        with pytest.raises(UsageError, match="end of its `async with`"):
            await rooms.stop()
        await rooms.send_text("x")
    assert (adapter.starts, adapter.closes) == (2, 2)


async def test_of_two_that_start_it_at_once_the_second_is_refused() -> None:
    rooms = RoomManager()
    results = await asyncio.gather(rooms.start(), rooms.start(), return_exceptions=True)
    assert [type(result) for result in results] == [type(None), UsageError]
    await rooms.stop()
    assert not rooms.health.ready


async def test_what_is_started_by_hand_may_have_a_lifespan_besides_and_outlive_it() -> None:
    rooms = RoomManager()
    await rooms.start()
    async with rooms:
        pass
    await rooms.send_text("x")
    async with rooms:
        await rooms.stop()
        await rooms.send_text("x")
    assert not rooms.health.ready


async def test_a_start_by_hand_that_fails_leaves_nothing_to_stop() -> None:
    adapter = FakeAdapter()
    adapter.start_error = AdapterUnavailable("wrong password")
    rooms = RoomManager(adapter)
    with pytest.raises(AdapterUnavailable, match="wrong password"):
        await rooms.start()
    await rooms.stop()
    adapter.start_error = None
    await rooms.start()
    await rooms.stop()


def test_started_by_hand_in_an_event_loop_that_is_gone_it_starts_in_the_next() -> None:
    rooms = RoomManager()

    async def start() -> None:
        await rooms.start()

    async def start_and_stop() -> None:
        await rooms.start()
        await rooms.stop()

    asyncio.run(start())
    asyncio.run(rooms.stop())
    asyncio.run(start())
    asyncio.run(start_and_stop())


# One adapter.


@pytest.mark.parametrize("make", [FakeAdapter, MemoryAdapter])
async def test_an_adapter_has_one_manager_at_a_time(make: Callable[[], Adapter]) -> None:
    adapter = make()
    one, two = RoomManager(adapter), RoomManager(adapter)
    async with one, Member(one, "lobby") as member:
        for _ in "12":
            with pytest.raises(ConfigurationError, match="serves another RoomManager"):
                await two.start()
        await one.to("lobby").send_text("still here")
        assert await member.receive_text() == "still here"
        assert one.health.ready
    async with two, Member(two, "lobby"):
        with pytest.raises(ConfigurationError, match="serves another RoomManager"):
            await one.start()
    assert not other_tasks()


async def test_an_adapter_that_is_being_closed_is_not_free_yet() -> None:
    adapter = FakeAdapter()
    close, may_close = adapter.close, asyncio.Event()

    async def slow_close() -> None:
        await may_close.wait()
        await close()

    adapter.close = slow_close  # type: ignore[method-assign]
    one, two = RoomManager(adapter), RoomManager(adapter)
    await one.start()
    stopping = asyncio.ensure_future(one.stop())
    await asyncio.sleep(0)
    with pytest.raises(ConfigurationError):
        await two.start()
    may_close.set()
    await stopping
    async with two:
        assert adapter.starts == 2


async def test_an_adapter_is_free_after_a_start_that_failed() -> None:
    adapter = FakeAdapter()
    adapter.start_error = AdapterUnavailable("wrong password")
    with pytest.raises(AdapterUnavailable):
        await RoomManager(adapter).start()
    adapter.start_error = None
    async with RoomManager(adapter):
        pass


def test_an_adapter_of_a_manager_whose_event_loop_is_gone_is_free() -> None:
    adapter = MemoryAdapter()
    one = RoomManager(adapter)

    async def start() -> None:
        await one.start()

    async def another() -> None:
        async with RoomManager(adapter):
            pass

    asyncio.run(start())
    asyncio.run(another())
