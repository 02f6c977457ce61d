"""What ends is seen to once: graces, workers that have died, and the worker itself."""

from __future__ import annotations

import asyncio
import math

import pytest

from fastapi_rooms import MemoryBus
from fastapi_rooms.adapters.presence import Beat, Entry, Lease, Terms
from fastapi_rooms.presence import keeper as module
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import eventually
from tests.unit.presence.host import ANN, BOB, CEM, KEY, OTHER, RUM, TEA, Keeping
from tests.unit.presence.support import AWAY, CarrierInHand

pytestmark = pytest.mark.usefixtures("soon")


async def test_a_grace_that_is_over_is_seen_to_once_and_nothing_is_kept(keeping: Keeping) -> None:
    keeper, host = keeping.keeper, keeping.host
    host.grace = 0.05
    await keeper.enter(TEA, [ANN])
    for number in range(20):  # each change says again when the next grace is over
        await keeper.enter(TEA, [Entry(f"x{number}", f"user{number}")])
        keeper.leave(TEA, [f"x{number}"])
    assert len(keeper._graces) <= 1
    keeper.leave(TEA, ["1"])
    await eventually(lambda: host.told.count("leave ann") == 1)
    await eventually(lambda: not keeping.rooms and not keeper._graces)
    assert sorted(host.told) == sorted(
        f"{kind} {user}"
        for kind in ("join", "leave")
        for user in ["ann", *map("user{}".format, range(20))]
    )


# The dead.


async def dead_with(bus: MemoryBus, *entries: Entry) -> Lease:
    """A worker that has died long ago."""
    carrier = CarrierInHand(bus)
    lease = (await carrier.beat(Lease(OTHER, 0), 0.001, reaps=False)).lease
    await carrier.change(KEY, lease, Terms(0), enter=entries)
    return lease


async def test_the_dead_are_reaped_though_it_fails_at_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = MemoryBus()
    await dead_with(bus, ANN)
    keeping = Keeping(CarrierInHand(bus), heartbeat=0.05)
    keeping.carrier.errors["reap"] = AWAY
    await eventually(lambda: keeping.carrier.asked.count("reap") >= 2)
    keeping.carrier.errors["reap"] = RuntimeError("a bug")
    await eventually(lambda: "could not be taken out" in caplog.text)
    del keeping.carrier.errors["reap"]
    await keeping.has()
    await eventually(lambda: "bury" in keeping.carrier.asked)
    assert keeping.host.told == ["leave ann"]
    await keeping.keeper.close(1)


async def test_two_reap_the_same_and_it_is_told_once() -> None:
    bus = MemoryBus()
    await dead_with(bus, ANN, BOB)
    one = Keeping(CarrierInHand(bus), heartbeat=0.05)
    two = Keeping(CarrierInHand(bus), heartbeat=0.05, node="1" * 16)
    await one.has()
    told = one.host.told + two.host.told
    assert sorted(told) == ["leave ann", "leave bob"]
    await one.keeper.close(1)
    await two.keeper.close(1)


async def test_who_reaps_a_worker_whose_users_are_in_their_grace_sees_to_them_from_then_on() -> (
    None
):
    bus = MemoryBus()
    dead = await dead_with(bus, ANN)
    keeping = Keeping(CarrierInHand(bus), heartbeat=0.05)
    keeping.host.grace = 0.1
    keeping.carrier.answers["rooms_of"] = lambda found: [*found, b"no name"]
    await eventually(lambda: keeping.host.told == ["leave ann"])
    await eventually(lambda: "bury" in keeping.carrier.asked)
    assert KEY.name not in await keeping.carrier.rooms_of(dead)
    await keeping.keeper.close(1)


async def test_who_reaps_a_worker_whose_users_have_lost_their_grace_sees_to_them_as_well() -> None:
    bus = MemoryBus()
    await dead_with(bus, ANN)
    keeping = Keeping(CarrierInHand(bus), heartbeat=0.05)
    for what in ("reap", "change"):
        keeping.carrier.answers[what] = lambda changed: changed._replace(is_whole=False)
    await eventually(lambda: "sync" in keeping.carrier.asked)
    asked = [what for what in keeping.carrier.asked if what in ("reap", "change", "bury")]
    assert asked[:2] == ["reap", "change"]
    await keeping.keeper.close(1)


async def test_who_reaps_and_dies_within_the_grace_is_reaped_by_the_next_who_tells_the_leave() -> (
    None
):
    bus = MemoryBus()
    await dead_with(bus, ANN)
    first = Keeping(CarrierInHand(bus), heartbeat=0.05, node="f" * 16)
    first.host.grace = 0.5
    await eventually(lambda: "bury" in first.carrier.asked)
    assert await first.carrier.rooms_of(first.keeper._lease.lease) == [KEY.name]
    await first.keeper._tasks.cancel(1)  # it renews its lease no more, nor sees to anybody
    first.keeper._graces.close()
    second = Keeping(CarrierInHand(bus), heartbeat=0.05)
    second.host.grace = 0.5
    await eventually(lambda: second.host.told == ["leave ann"])
    await second.keeper.close(1)
    await first.keeper.close(1)


# The end.


async def test_all_is_told_at_the_end_though_it_takes_many_changes() -> None:
    keeping = Keeping(CarrierInHand())
    many = [Entry(str(number), f"user{number}") for number in range(2600)]
    await keeping.keeper.enter(TEA, many)
    keeping.keeper.leave(TEA, [entry.sid for entry in many])
    await keeping.keeper.close(5)
    assert await keeping.entries() == set()
    assert "bury" in keeping.carrier.asked


async def test_at_the_end_what_was_refused_is_tried_again() -> None:
    keeping = Keeping(CarrierInHand())
    await keeping.keeper.enter(TEA, [ANN])
    keeping.carrier.errors["change"] = AWAY
    keeping.keeper.leave(TEA, ["1"])
    closing = asyncio.create_task(keeping.keeper.close(5))
    await eventually(lambda: keeping.carrier.asked.count("change") >= 3)
    del keeping.carrier.errors["change"]
    await closing
    assert await keeping.entries() == set()


@pytest.mark.parametrize("error", [AWAY, TimeoutError()], ids=["away", "late"])
async def test_a_lease_that_cannot_be_given_back_ends_by_itself(error: Exception) -> None:
    keeping = Keeping(CarrierInHand())
    await keeping.keeper.enter(TEA, [ANN])
    keeping.keeper.leave(TEA, ["1"])
    keeping.carrier.errors["bury"] = error
    await keeping.keeper.close(1)
    assert keeping.carrier.asked.count("bury") == 1


async def test_a_carrier_that_does_not_answer_is_not_waited_for_longer_than_the_timeout() -> None:
    keeping = Keeping(CarrierInHand())
    keeping.carrier.hold()
    under_way = keeping.keeper.enter(TEA, [ANN])
    await eventually(lambda: keeping.carrier.waiting == 1)
    next_one = keeping.keeper.enter(TEA, [BOB])
    await keeping.keeper.close(0.05)
    assert under_way.cancelled()
    assert next_one.cancelled()
    assert keeping.keeper.enter(RUM, [CEM]).cancelled(), "it is over"
    assert RUM not in keeping.rooms
    keeping.keeper._schedule(TEA)
    await asyncio.sleep(0)
    assert not keeping.keeper._telling
    assert not {t for t in asyncio.all_tasks() if "presence" in t.get_name()}


class SlowToAnswer(CarrierInHand):
    """Does at once what it is asked; who renews a lease may have to wait to be told."""

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.answers_beats = asyncio.Event()

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        beat = await super().beat(lease, ttl, reaps=reaps)
        await self.answers_beats.wait()
        return beat


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "doubted"])
async def test_a_lease_that_is_renewed_as_the_worker_ends_is_given_back(is_first: bool) -> None:
    bus = MemoryBus()
    keeping = Keeping(carrier := SlowToAnswer(bus))
    lease = keeping.keeper._lease
    if not is_first:
        carrier.answers_beats.set()
        await lease.wait_until_valid()
        await carrier.bury(lease.lease)  # as if its key had been evicted
        carrier.answers_beats.clear()
        lease.doubt(lease.lease)
    asked = len(carrier.asked)
    await eventually(lambda: len(carrier.asked) > (0 if is_first else asked))
    closing = asyncio.create_task(keeping.keeper.close(5))
    await asyncio.sleep(0)
    carrier.answers_beats.set()
    await closing
    with bus.presence() as presence:
        assert len(presence) == 0


async def stopped_in_grace(bus: MemoryBus, grace: float) -> Lease:
    """A worker that was stopped properly, long before its lease is over."""
    keeping = Keeping(CarrierInHand(bus), node=OTHER)
    keeping.host.grace = grace
    await keeping.keeper.enter(TEA, [ANN])
    keeping.keeper.leave(TEA, ["1"])
    await keeping.keeper.close(1)
    assert "bury" not in keeping.carrier.asked
    assert await keeping.carrier.count(KEY) == 1
    return keeping.keeper._lease.lease


async def test_users_in_their_grace_are_left_to_others_who_see_to_them_from_now_on() -> None:
    bus = MemoryBus()
    keeping = Keeping(CarrierInHand(bus), heartbeat=0.05)
    keeping.keeper._lease._reaps_from = math.inf  # as one that has just come
    await stopped_in_grace(bus, 0.1)
    await eventually(lambda: keeping.host.told == ["leave ann"])
    await keeping.keeper.close(1)


async def test_who_is_left_to_others_has_the_grace_all_the_same() -> None:
    bus = MemoryBus()
    keeping = Keeping(CarrierInHand(bus), heartbeat=0.05)
    await stopped_in_grace(bus, 60)
    await eventually(lambda: "bury" in keeping.carrier.asked, what="it sees to her")
    await keeping.keeper.enter(TEA, [Entry("9", "ann")])
    assert keeping.host.told == []
    keeping.keeper.leave(TEA, ["9"])
    await eventually(lambda: keeping.host.told == ["leave ann"])
    await keeping.keeper.close(1)


@pytest.mark.parametrize("what", ["change", "beat"])
async def test_a_carrier_that_refuses_at_the_end_is_not_asked_for_ever(what: str) -> None:
    keeping = Keeping(CarrierInHand())
    keeping.host.grace = 60
    await keeping.keeper.enter(TEA, [ANN])
    keeping.carrier.errors[what] = AWAY
    keeping.keeper.leave(TEA, ["1"])
    await keeping.keeper.close(0.05)
    assert "bury" not in keeping.carrier.asked
    assert await keeping.carrier.count(KEY) == 1


async def test_a_room_that_is_left_before_its_turn_to_be_told_as_a_whole_is_told_so(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeping.keeper
    for number in range(20):
        await keeper.enter(Name("/", str(number)), [ANN])
    await keeper.enter(TEA, [BOB])
    keeping.carrier.hold()
    keeper.leave(TEA, [BOB.sid])
    await eventually(lambda: keeping.carrier.waiting)
    monkeypatch.setattr(module, "BEGUN_AT_ONCE", 1)  # its turn is the last
    keeper._sync_all()
    keeping.carrier.release()
    await eventually(lambda: TEA not in keeping.rooms)
    await eventually(lambda: keeping.carrier.asked.count("sync") == 21, what="it, too")
    await eventually(lambda: not (keeper._unsynced or keeper._flushes._is_scheduled))


async def test_a_keeper_that_is_closed_does_not_go_on_for_what_it_had_still_to_tell() -> None:
    keeping = Keeping(CarrierInHand())
    await keeping.keeper.enter(TEA, [ANN])
    await keeping.keeper.close(1)
    assert keeping.keeper._lease.is_valid
    keeping.keeper._sync_all()
    await eventually(lambda: not keeping.keeper._flushes._is_scheduled)
