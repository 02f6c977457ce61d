"""The calls that wait for channels to become live."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.waiters import Waiters


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


async def test_a_call_waits_for_the_last_of_its_channels(waiters: Waiters) -> None:
    waiting = asyncio.ensure_future(waiters.wait({b"a", b"b"}))
    await asyncio.sleep(0)
    waiters.wake(b"a")
    await asyncio.sleep(0)
    assert not waiting.done()
    waiters.wake(b"b")
    await waiting
    assert not waiters._waiters


@pytest.mark.parametrize("reverse", [False, True])
async def test_thousands_that_are_cancelled_leave_nothing_and_delay_no_other(
    waiters: Waiters, reverse: bool
) -> None:
    kept = asyncio.ensure_future(waiters.wait({b"a"}))
    waiting = [asyncio.ensure_future(waiters.wait({b"a", b"b"})) for _ in range(5000)]
    await asyncio.sleep(0)
    for wait in reversed(waiting) if reverse else waiting:
        wait.cancel()
    await asyncio.wait(waiting)
    assert [len(calls) for calls in waiters._waiters.values()] == [1]
    waiters.wake(b"a")
    await kept
    assert not waiters._waiters


async def test_one_that_is_cancelled_in_the_turn_of_its_channel_leaves_nothing(
    waiters: Waiters,
) -> None:
    waiting = asyncio.ensure_future(waiters.wait({b"a"}))
    await asyncio.sleep(0)
    waiters.wake(b"a")
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not waiters._waiters


async def test_a_refusal_raises_and_leaves_nothing(waiters: Waiters) -> None:
    waiting = asyncio.ensure_future(waiters.wait({b"a", b"b"}))
    await asyncio.sleep(0)
    waiters.fail([b"a"], "no permission")
    with pytest.raises(AdapterUnavailable, match="no permission"):
        await waiting
    assert not waiters._waiters
