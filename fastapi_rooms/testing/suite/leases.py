"""Workers that die, freeze and come back: the part of `PresenceSuite` that is about leases."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.adapters.presence import Beat, Lease
from fastapi_rooms.testing.suite.people import (
    AT_ONCE,
    LATER,
    TTL,
    PresenceBench,
    Three,
    common_room,
    declared_dead,
    joins,
    leaves,
    present_after,
    told,
)


@pytest.mark.asyncio
class LeasesSuite(PresenceBench):
    """Leases, and what becomes of the sockets of those who lose them."""

    async def test_a_lease_goes_on_until_its_worker_was_declared_dead(self, three: Three) -> None:
        one, two, _ = three
        first = one.lease
        assert first.number == 1
        for _ in range(3):
            assert await one.beat() == []
            assert one.lease == first
        assert await two.beat(reaps=True) == []
        dead = await declared_dead(one, by=two)
        assert dead in await two.beat(reaps=True), "until it is buried"
        await one.beat()
        assert one.lease == Lease(first.node, 2)
        await two.adapter.bury(dead)
        assert await two.beat(reaps=True) == []
        await one.beat()
        assert one.lease == Lease(first.node, 2)

    async def test_one_whose_lease_has_ended_keeps_it_if_nobody_took_note(
        self, three: Three
    ) -> None:
        one, two, _ = three
        lease = one.lease
        await one.beat(0.001)
        await asyncio.sleep(0.01)
        assert await two.beat(reaps=False) == []
        await one.beat()
        assert one.lease == lease
        assert await two.beat(reaps=True) == []

    async def test_one_whose_lease_had_run_down_declares_nobody_dead(self, three: Three) -> None:
        """Those of others have run down as well where the carrier is as it was some time ago."""
        one, two, three_ = three
        assert not (await one.adapter.beat(one.lease, TTL, reaps=True)).is_late
        for worker in (one, two):
            await worker.beat(0.001)
        await asyncio.sleep(0.01)
        late = await one.adapter.beat(one.lease, TTL, reaps=True)
        assert late == Beat(one.lease, (), is_late=True)
        await two.beat()
        assert await one.beat(reaps=True) == []
        assert await three_.beat(reaps=True) == []
        dead = await declared_dead(two, by=one)
        back = await two.adapter.beat(dead, TTL, reaps=True)
        assert back == Beat(Lease(dead.node, 2), (), is_late=True), "it was gone"
        two.lease = back.lease
        await one.adapter.bury(dead)

    async def test_to_ask_again_gives_the_same_lease(self, three: Three) -> None:
        one, two, _ = three
        lease = one.lease
        one.lease = Lease(lease.node, 0)
        await one.beat()
        assert one.lease == lease
        dead = await declared_dead(one, by=two)
        for _ in range(2):
            one.lease = lease
            await one.beat()
            assert one.lease.number == 2
        await two.adapter.bury(dead)

    async def test_the_users_of_one_who_died_leave_once_however_many_reap(
        self, three: Three
    ) -> None:
        one, two, three_ = three
        room = await common_room([two, three_])
        own = [one.new_socket(f"user {number}") for number in range(450)]
        stays = two.new_socket("user 0")
        await two.enter(room, stays)
        await one.enter(room, *own)
        dead = await declared_dead(one, by=two)
        assert await two.adapter.rooms_of(dead) == [room.name]
        reaping = (w.adapter.reap(room, dead, AT_ONCE) for w in (two, three_, two))
        made = [event for changed in await asyncio.gather(*reaping) for event in changed.events]
        made.sort(key=lambda each: each.version)
        assert sorted(told(made)) == sorted(leaves(*(entry.user for entry in own[1:])))
        heard = await three_.heard_until(room, made[-1].version)
        assert present_after(heard) == {"user 0"}
        assert (await three_.snapshot(room))[2] == {stays}
        assert await two.adapter.rooms_of(dead) == []
        await two.adapter.bury(dead)
        await two.leave(room, stays)

    async def test_the_users_of_one_who_died_have_their_grace(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([two])
        await one.enter(room, one.new_socket("ann"), one.new_socket("bob"))
        dead = await declared_dead(one, by=two)
        reaped = await two.adapter.reap(room, dead, LATER)
        assert reaped.events == ()
        assert reaped.next_leave is not None
        ann = two.new_socket("ann")
        assert (await two.enter(room, ann)).events == (), "she has moved"
        assert await two.adapter.count(room) == 2
        assert await two.adapter.rooms_of(dead) == [room.name], "bob has to be seen to"
        await two.adapter.bury(dead)
        bob = two.new_socket("bob")
        await two.enter(room, bob)
        left = await two.leave(room, ann, bob)
        assert told(left.events) == leaves("ann", "bob")

    async def test_one_that_gives_its_lease_back_leaves_those_in_their_grace_to_others_at_once(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann = one.new_socket("ann")
        await one.enter(room, ann)
        await one.leave(room, ann, terms=LATER)
        await one.beat(0)
        assert await two.beat(reaps=False) == [one.lease], "however short a time it has been there"
        assert await two.adapter.rooms_of(one.lease) == [room.name]
        reaped = await two.adapter.reap(room, one.lease, AT_ONCE)
        assert (reaped.events, await two.adapter.count(room)) == ((), 1)
        await two.adapter.bury(one.lease)
        ann = two.new_socket("ann")
        assert (await two.enter(room, ann)).events == ()
        assert told((await two.leave(room, ann)).events) == leaves("ann")

    async def test_who_changes_a_room_by_nothing_sees_to_those_in_their_grace(
        self, three: Three
    ) -> None:
        one, two, three_ = three
        room = await common_room([three_])
        await one.enter(room, one.new_socket("ann"))
        dead = await declared_dead(one, by=two)
        await two.adapter.reap(room, dead, LATER)
        assert (await two.enter(room, terms=LATER)).next_leave is not None
        await two.adapter.bury(dead)
        assert await two.adapter.rooms_of(two.lease) == [room.name]
        dead = await declared_dead(two, by=three_)
        reaped = await three_.adapter.reap(room, dead, LATER)
        assert (reaped.events, await three_.adapter.count(room)) == ((), 1)
        ann = three_.new_socket("ann")
        assert (await three_.enter(room, ann)).events == ()
        assert told((await three_.leave(room, ann)).events) == leaves("ann")
        assert await three_.adapter.rooms_of(three_.lease) == []
        await three_.adapter.bury(dead)

    async def test_one_that_was_reaped_cannot_write_before_it_has_a_new_lease(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann, bob = one.new_socket("ann"), one.new_socket("bob")
        await one.enter(room, ann)
        dead = await declared_dead(one, by=two)
        await two.adapter.reap(room, dead, AT_ONCE)
        await two.adapter.bury(dead)
        cem = one.new_socket("cem")
        for late in (one.enter(room, bob), one.enter(room, cem, quiet=True), one.leave(room, ann)):
            changed = await late
            assert (changed.fenced, changed.events) == (True, ())
        assert await two.adapter.count(room) == 0
        assert await two.adapter.rooms_of(dead) == []
        assert await two.adapter.rooms_of_user("/", "bob") == []
        await one.beat()
        changed = await one.adapter.sync(room, one.lease, AT_ONCE, [ann, bob])
        assert sorted(told(changed.events)) == joins("ann", "bob"), "as they were told to leave"
        left = await one.leave(room, ann, bob)
        heard = await two.heard_until(room, left.version)
        assert told(heard[:2]) == joins("ann") + leaves("ann")
        assert present_after(heard) == set()

    async def test_reapers_that_are_late_do_nothing_to_one_that_has_come_back(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann = one.new_socket("ann")
        await one.enter(room, ann)
        dead = await declared_dead(one, by=two)
        await one.beat()
        changed = await one.adapter.sync(room, one.lease, AT_ONCE, [ann])
        assert changed.events == (), "nobody has told that she left"
        changed = await two.adapter.reap(room, dead, AT_ONCE)
        assert (changed.fenced, changed.events) == (True, ())
        await two.adapter.bury(dead)
        assert await two.adapter.rooms_of(one.lease) == [room.name]
        assert await two.adapter.is_present(room, "ann")
        assert told((await one.leave(room, ann)).events) == leaves("ann")

    async def test_one_that_comes_back_while_it_is_reaped_is_told_right(self, three: Three) -> None:
        one, two, three_ = three
        room = await common_room([three_])
        own = [one.new_socket(f"user {number}") for number in range(600)]
        await one.enter(room, *own)
        dead = await declared_dead(one, by=two)

        async def come_back() -> None:
            await one.beat()
            await one.adapter.sync(room, one.lease, AT_ONCE, own)

        await asyncio.gather(
            *(w.adapter.reap(room, dead, AT_ONCE) for w in (two, three_)), come_back()
        )
        await two.adapter.bury(dead)
        # What a reaper took out before it saw the new lease, the worker finds missing.
        await one.adapter.sync(room, one.lease, AT_ONCE, own)
        assert (await two.snapshot(room))[2] == {*own}
        left = await one.leave(room, *own)
        assert present_after(await three_.heard_until(room, left.version)) == set()
