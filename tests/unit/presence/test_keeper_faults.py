"""The carrier comes to have what is so on a worker, whatever it refuses, forgets or answers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_rooms import AdapterUnavailable, MemoryBus
from fastapi_rooms.adapters.presence import Changed, Entry, Lease, RoomKey, Sums, Terms
from fastapi_rooms.core import own_presence
from fastapi_rooms.presence import keeper as module
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import eventually
from tests.unit.presence.host import ANN, BOB, CEM, KEY, NODE, OTHER, RUM, TEA, Keeping
from tests.unit.presence.support import AWAY, CarrierInHand

pytestmark = pytest.mark.usefixtures("soon")


async def test_who_enters_and_leaves_is_told_and_nothing_is_kept_then(keeping: Keeping) -> None:
    keeper = keeping.keeper
    await keeper.enter(TEA, [ANN, BOB])
    assert keeper.has(TEA)
    await keeping.has(ANN, BOB)
    keeper.leave(TEA, ["1", "2", "unknown"])
    keeper.leave(RUM, ["1"])
    await keeping.has()
    assert keeping.host.told == ["join ann", "join bob", "leave ann", "leave bob"]
    await eventually(lambda: not keeping.rooms)
    assert not keeper._waiting
    assert not keeper._due


@pytest.mark.parametrize("error", [AWAY, RuntimeError("a bug")], ids=["away", "unexpected"])
async def test_what_could_not_be_told_fails_who_waits_and_is_tried_again(
    keeping: Keeping, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    keeping.carrier.errors["change"] = error
    first, second = keeping.keeper.enter(TEA, [ANN]), keeping.keeper.enter(TEA, [BOB])
    for waiting in (first, second):
        with pytest.raises(AdapterUnavailable, match=r"is away|a bug"):
            await waiting
    await eventually(lambda: keeping.carrier.asked.count("change") > 2)
    del keeping.carrier.errors["change"]
    await keeping.has(ANN, BOB)
    assert [record.levelno for record in caplog.records] == (
        [] if error is AWAY else [logging.ERROR] * len(caplog.records)
    )
    assert bool(caplog.records) == (error is not AWAY)


async def test_what_was_made_of_a_change_that_failed_at_last_is_seen_to_and_it_is_tried_again(
    keeping: Keeping,
) -> None:
    def failed(changed: Changed) -> Changed:
        keeping.carrier.answers.clear()
        return changed._replace(failure=AWAY)

    keeping.carrier.answers["change"] = failed
    with pytest.raises(AdapterUnavailable, match="is away"):
        await keeping.keeper.enter(TEA, [ANN])
    assert keeping.host.told == ["join ann"]
    await keeping.has(ANN)
    assert keeping.carrier.asked.count("change") == 2
    assert keeping.host.told == ["join ann"]


async def test_several_wait_for_one_change_and_one_gives_up(keeping: Keeping) -> None:
    keeping.carrier.hold()
    told = keeping.keeper.enter(TEA, [ANN])
    assert keeping.keeper.enter(TEA, [BOB]) is told

    async def wait() -> None:
        await asyncio.wait([told])

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    await eventually(lambda: keeping.carrier.waiting == 1)
    waiting[0].cancel()
    later = keeping.keeper.enter(TEA, [CEM])
    assert later is not told, "the change that is under way has nothing of it"
    keeping.carrier.release()
    await asyncio.wait(waiting)
    await later
    assert [task.cancelled() for task in waiting] == [True, False, False]
    await keeping.has(ANN, BOB, CEM)


async def test_more_than_one_change_takes_are_waited_for_to_the_last(keeping: Keeping) -> None:
    many = [Entry(str(number), f"user{number}") for number in range(1100)]
    await keeping.keeper.enter(TEA, many)
    assert len(await keeping.entries()) == 1100
    assert keeping.carrier.asked.count("change") == 3


# Fences, and leases.


async def declare_dead(keeping: Keeping) -> None:
    """A room says that the lease is not valid; what has the leases does not know."""
    await keeping.carrier.reap(KEY, keeping.keeper._lease.lease, Terms(0))


async def test_who_is_fenced_off_has_another_lease_though_the_old_one_seems_valid(
    keeping: Keeping,
) -> None:
    await keeping.keeper.enter(TEA, [ANN])
    old = keeping.keeper._lease.lease
    await declare_dead(keeping)
    async with asyncio.timeout(5):
        await keeping.keeper.enter(TEA, [BOB])
    await keeping.has(ANN, BOB)
    assert keeping.keeper._lease.lease.number > old.number
    assert keeping.carrier.asked.count("beat") < 6


async def test_a_room_that_refuses_every_lease_is_not_asked_in_a_hurry(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY", 60)
    carrier, keeper = keeping.carrier, keeping.keeper
    await keeper.enter(RUM, [ANN])
    for what in ("change", "sync"):
        carrier.answers[what] = lambda changed: changed._replace(fenced=True)
    told = keeper.enter(TEA, [BOB])
    for _ in range(1000):
        await asyncio.sleep(0)
    assert carrier.asked.count("beat") < 20
    assert len(carrier.asked) < 40, "it is a tight loop"
    assert not told.done()


async def test_a_room_that_has_refused_several_leases_takes_another(keeping: Keeping) -> None:
    carrier, keeper = keeping.carrier, keeping.keeper
    await keeper.enter(RUM, [ANN])
    for what in ("change", "sync"):
        carrier.answers[what] = lambda changed: changed._replace(fenced=True)
    told = keeper.enter(TEA, [BOB])
    await eventually(lambda: TEA in keeping.rooms and keeping.rooms[TEA].fences > 2)
    carrier.answers.clear()
    await told
    await keeping.has(BOB)
    await keeping.has(ANN, name=RUM)
    assert keeping.rooms[TEA].fences == 0


async def test_who_waited_as_it_was_fenced_off_may_have_gone_when_it_fails(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    carrier, keeper = keeping.carrier, keeping.keeper
    await keeper.enter(TEA, [ANN])
    carrier.answers["change"] = lambda changed: changed._replace(fenced=True)
    carrier.errors["sync"] = AWAY
    first = keeper.enter(TEA, [BOB])
    carrier.hold()
    await eventually(lambda: carrier.waiting == 1)
    later = keeper.enter(TEA, [CEM])
    carrier.release()
    await asyncio.wait([first], timeout=0.1)
    carrier.errors["change"] = AWAY
    await eventually(first.done)
    del first, later
    await eventually(lambda: not keeper._waiting)
    carrier.errors.clear()
    carrier.answers.clear()
    await keeping.has(ANN, BOB, CEM)
    assert "never retrieved" not in caplog.text


async def test_what_the_carrier_has_lost_is_found_by_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeping = Keeping(CarrierInHand())
    await keeping.keeper.enter(TEA, [ANN])
    await keeping.carrier.change(
        KEY, keeping.keeper._lease.lease, Terms(0), enter=[CEM], leave=["1"], quiet=True
    )
    # A room that it has left, and of which the carrier has more than there is.
    rum = RoomKey(RUM.key, b"")
    await keeping.carrier.change(rum, keeping.keeper._lease.lease, Terms(0), enter=[BOB])
    keeping.keeper._comparison.hurry()
    await keeping.has(ANN)
    await keeping.has(name=RUM)
    await eventually(lambda: RUM not in keeping.rooms)
    await keeping.keeper.close(1)


async def test_a_room_without_sockets_whose_graces_are_lost_is_repaired_once(
    keeping: Keeping,
) -> None:
    """It would be forgotten, with users who never leave; others are found by comparison."""
    for what in ("change", "sync"):
        keeping.carrier.answers[what] = lambda changed: changed._replace(is_whole=False)
    await keeping.keeper.enter(TEA, [ANN, BOB])
    keeping.keeper.leave(TEA, ["1"])
    await keeping.has(BOB)
    assert "sync" not in keeping.carrier.asked
    keeping.keeper.leave(TEA, ["2"])
    await keeping.has()
    await eventually(lambda: not keeping.rooms)
    assert keeping.carrier.asked.count("sync") == 1


async def test_what_leads_to_a_room_and_is_lost_is_put_in_again(keeping: Keeping) -> None:
    """Else nobody would find the room if this worker died."""
    await keeping.keeper.enter(TEA, [ANN])
    keeping.carrier.asked.clear()
    keeping.carrier.answers["rooms_of"] = lambda _: []
    keeping.keeper._comparison.hurry()
    await eventually(lambda: "sync" in keeping.carrier.asked)
    del keeping.carrier.answers["rooms_of"]
    await keeping.has(ANN)
    keeping.carrier.asked.clear()
    keeping.keeper._comparison.hurry()
    await eventually(lambda: "sums" in keeping.carrier.asked)
    assert "sync" not in keeping.carrier.asked, "once is enough"


class CarrierOfNodes(CarrierInHand):
    """One that keeps a room on one node, and what leads there on another."""

    def shard_of(self, channel: bytes) -> int:
        return hash(channel)

    def is_reachable(self, channel: bytes) -> bool:
        return True


async def test_where_a_node_may_have_lost_something_all_that_leads_to_rooms_is_put_in_again() -> (
    None
):
    """What leads there from users is not compared: it may be at any node."""
    keeping = Keeping(CarrierOfNodes(), heartbeat=0.05)
    await keeping.keeper.enter(TEA, [ANN])
    keeping.carrier.asked.clear()
    keeping.connection += 1
    await eventually(lambda: "sync" in keeping.carrier.asked)
    await keeping.has(ANN)
    await keeping.keeper.close(1)


async def test_who_moved_as_the_carrier_lost_it_is_not_told_to_leave_and_to_join() -> None:
    """Also without a grace, and if the worker that they left is the first to put it right."""
    bus = MemoryBus()
    one, two = (Keeping(CarrierInHand(bus), node=node, heartbeat=0.2) for node in (NODE, OTHER))
    there = Entry("2", "ann")
    await one.keeper.enter(TEA, [ANN])
    await two.keeper.enter(TEA, [there])
    one.keeper.leave(TEA, ["1"])
    await one.has(there)
    await one.carrier.change(KEY, one.keeper._lease.lease, Terms(0), enter=[ANN])
    await two.carrier.change(KEY, two.keeper._lease.lease, Terms(0), leave=["2"])
    one.keeper._comparison.hurry()
    await one.has()
    two.keeper._comparison.hurry()
    await two.has(there)
    two.keeper.leave(TEA, ["2"])
    await two.has()
    assert one.host.told == ["join ann"]
    await eventually(lambda: two.host.told == ["leave ann"])
    for keeping in (one, two):
        await keeping.keeper.close(1)


@pytest.mark.parametrize("what", ["sums", "rooms_of"])
@pytest.mark.parametrize("error", [AWAY, RuntimeError("a bug")], ids=["away", "unexpected"])
async def test_a_comparison_that_fails_is_not_the_last_one(
    keeping: Keeping, what: str, error: Exception
) -> None:
    carrier = keeping.carrier
    await keeping.keeper.enter(TEA, [ANN])
    carrier.errors[what] = error
    keeping.keeper._comparison.hurry()
    await eventually(lambda: what in carrier.asked)
    del carrier.errors[what]
    carrier.answers["sums"] = lambda found: found[:-1]  # fewer than were asked for
    asked = carrier.asked.count("sums")
    keeping.keeper._comparison.hurry()
    await eventually(lambda: carrier.asked.count("sums") == asked + 1)
    carrier.answers.clear()
    keeping.keeper._comparison.hurry()
    await eventually(lambda: carrier.asked.count("sums") == asked + 2)


async def test_rooms_that_are_none_are_passed_over(keeping: Keeping) -> None:
    await keeping.keeper.enter(TEA, [ANN])
    carrier = keeping.carrier
    forged = [b"", b"#", b"/", b"/#", b"#room", b"\xff#\xff", *(b"/#%d" % n for n in range(1500))]
    carrier.answers["rooms_of"] = lambda found: [*found, *forged]
    keeping.keeper._comparison.hurry()
    await eventually(lambda: carrier.asked.count("sync") == 1500)
    await eventually(lambda: [*keeping.rooms] == [TEA])
    carrier.answers.clear()


# Versions that fall, and such as are forged.


def fall(keeping: Keeping, name: Name = TEA) -> int:
    """The carrier loses its last writes; returns the version that the room had."""
    with keeping.carrier.bus.presence() as store:
        room = store._rooms[name.key]
        room.version -= 2
        return room.version + 2


async def version_of(keeping: Keeping) -> int:
    return (await keeping.carrier.present(KEY)).version


async def test_a_count_that_has_fallen_is_raised_by_whoever_has_something_to_tell(
    keeping: Keeping,
) -> None:
    await keeping.keeper.enter(TEA, [ANN])
    before = fall(keeping)
    await keeping.keeper.enter(TEA, [BOB])
    assert await version_of(keeping) > before


@pytest.mark.parametrize("how", ["answered", "heard"])
async def test_a_count_that_has_fallen_is_raised_by_comparison_though_nothing_else_is_lost(
    keeping: Keeping, how: str
) -> None:
    await keeping.keeper.enter(TEA, [ANN])
    before = fall(keeping)
    if how == "heard":  # of what another worker has done
        keeping.rooms[TEA].version, keeping.host.versions[TEA] = before - 2, before
    keeping.keeper._comparison.hurry()

    async def is_raised() -> bool:
        return await version_of(keeping) >= before

    await eventually(is_raised)
    assert "sync" not in keeping.carrier.asked


async def test_what_a_reaper_is_answered_counts_as_well(keeping: Keeping) -> None:
    carrier, dead = keeping.carrier, Lease(OTHER, 1)
    await keeping.keeper.enter(TEA, [ANN])
    await carrier.change(KEY, dead, Terms(0), enter=[BOB])
    keeping.keeper._changed(TEA, await carrier.reap(KEY, dead, Terms(0)))
    assert keeping.rooms[TEA].version == await version_of(keeping)


async def test_a_version_that_the_carrier_has_not_come_to_is_taken_back(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, host = keeping.keeper, keeping.host

    async def compare() -> None:
        asked = keeping.carrier.asked.count("sums")
        keeper._comparison.hurry()
        await eventually(lambda: keeping.carrier.asked.count("sums") > asked)

    await keeper.enter(TEA, [ANN])
    true = keeping.rooms[TEA].version
    host.versions[TEA] = true
    await keeper.enter(TEA, [BOB])
    await compare()
    host.versions[TEA] = 2**53
    await compare()
    await compare()
    assert host.unheard == [], "it may have lost its last writes a moment ago"
    monkeypatch.setattr(own_presence, "BEHIND", 0)
    await compare()
    assert host.unheard == [true + 1]


async def test_what_is_heard_between_the_question_and_its_answer_is_true(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_presence, "BEHIND", 0)
    keeper, host, carrier = keeping.keeper, keeping.host, keeping.carrier
    await keeper.enter(TEA, [ANN])

    def hear(found: list[Sums]) -> list[Sums]:
        host.versions[TEA] = found[0].version + 1
        return found

    for _ in range(3):
        host.versions[TEA] = keeping.rooms[TEA].version
        carrier.answers["sums"] = hear
        carrier.asked.clear()
        keeper._comparison.hurry()
        await eventually(lambda: "sums" in carrier.asked)
    assert host.unheard == []
