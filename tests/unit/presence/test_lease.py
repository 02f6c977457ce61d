"""A lease is renewed as long as the worker lives, whatever the carrier answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from fastapi_rooms.adapters.presence import Lease
from fastapi_rooms.presence import lease as module
from fastapi_rooms.presence.lease import LeaseKeeper
from fastapi_rooms.testing import eventually
from tests.unit.presence.support import AWAY, CarrierInHand

NODE = "0123456789abcdef"


class Leasing:
    """A lease that is kept, and what was called."""

    def __init__(self, interval: float = 0.02) -> None:
        self.carrier = CarrierInHand()
        self.told: list[str] = []
        self.overdue: list[Lease] = []
        self.connection = 0
        self.lease = LeaseKeeper(
            NODE,
            self.carrier,
            interval,
            connection=lambda: self.connection,
            on_new=lambda: self.told.append("new"),
            on_renewed=lambda: self.told.append("renewed"),
            on_overdue=self.overdue.extend,
        )
        self.task = asyncio.create_task(self.lease.run())

    async def close(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
async def leasing() -> AsyncIterator[Leasing]:
    leasing = Leasing()
    yield leasing
    await leasing.close()


@pytest.mark.parametrize("error", [AWAY, RuntimeError("a bug")], ids=["away", "unexpected"])
async def test_it_is_renewed_again_after_whatever_was_raised(
    leasing: Leasing, error: Exception
) -> None:
    await leasing.lease.wait_until_valid()
    leasing.carrier.errors["beat"] = error
    await eventually(lambda: not leasing.lease.is_valid)
    waiting = [asyncio.create_task(leasing.lease.wait_until_valid()) for _ in range(3)]
    waiting[0].cancel()
    await asyncio.sleep(0)
    del leasing.carrier.errors["beat"]
    await asyncio.wait(waiting)
    assert leasing.lease.is_valid
    await eventually(lambda: leasing.told in (["renewed"], ["new"]))


async def test_callbacks_that_raise_do_not_end_it(
    leasing: Leasing, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        leasing.told.append("raised")
        raise RuntimeError("a bug")

    await leasing.lease.wait_until_valid()
    leasing.lease._on_renewed = fail
    leasing.connection += 1
    await eventually(lambda: leasing.told == ["raised"])
    asked = len(leasing.carrier.asked)
    await eventually(lambda: len(leasing.carrier.asked) > asked + 2)
    assert "could not be renewed" in caplog.text


async def test_another_connection_is_told() -> None:
    leasing = Leasing(interval=60)
    await leasing.lease.wait_until_valid()
    leasing.connection += 1
    leasing.lease._wanted.set()
    await eventually(lambda: leasing.told == ["renewed"])
    await leasing.close()


async def test_a_lease_that_is_doubted_is_replaced_and_an_older_one_is_not() -> None:
    leasing = Leasing(interval=60)
    await leasing.lease.wait_until_valid()
    first = leasing.lease.lease
    leasing.lease.doubt(Lease(NODE, 7))
    assert [leasing.lease.is_valid] == [True]
    leasing.lease.doubt(first)
    assert [leasing.lease.is_valid] == [False]
    await leasing.lease.wait_until_valid()
    second = leasing.lease.lease
    assert second.number > first.number
    assert leasing.told == ["new"]
    leasing.lease.doubt(first)  # a change that was sent before
    assert [leasing.lease.is_valid] == [True]
    await leasing.close()


async def test_a_doubted_lease_that_the_carrier_has_replaced_is_not_replaced_twice() -> None:
    leasing = Leasing(interval=60)
    await leasing.lease.wait_until_valid()
    first = leasing.lease.lease
    await leasing.carrier.bury(first)
    leasing.carrier.asked.clear()
    leasing.lease.doubt(first)
    await leasing.lease.wait_until_valid()
    assert leasing.lease.lease.number == first.number + 1
    assert leasing.carrier.asked == ["beat"]
    await leasing.close()


async def test_nobody_is_declared_dead_before_a_lease_s_time_has_passed(leasing: Leasing) -> None:
    other = Lease("fedcba9876543210", 0)
    await leasing.carrier.beat(other, 0.001, reaps=False)
    await eventually(lambda: bool(leasing.overdue))
    assert {lease.node for lease in leasing.overdue} == {other.node}
    assert leasing.carrier.asked.count("beat") > module.BEATS
