"""The contract of `fastapi_rooms.adapters.presence`, checked on adapters without a manager."""

from __future__ import annotations

import asyncio
import random
import secrets

import pytest

from fastapi_rooms.adapters.presence import Changed, Entry, Sums, UserEvent, sums_of
from fastapi_rooms.testing.suite.kept_messages import room_named
from fastapi_rooms.testing.suite.leases import LeasesSuite
from fastapi_rooms.testing.suite.people import (
    AT_ONCE,
    LATER,
    SOON,
    Three,
    common_room,
    joins,
    leaves,
    present_after,
    told,
)

ODD_NAMES = [
    "a",
    "A",
    "#",
    "a#b",
    " ",
    "{a}",
    "{",
    "}",
    "*",
    "[a]",
    "\0",
    "\r\n",
    "Grüße 🎉",
    "x" * 255,
]
MANY = 2000
"""Users of a room that takes several pages."""


@pytest.mark.asyncio
class PresenceSuite(LeasesSuite):
    """Subclass it where a fixture `backplane` is, whose adapters are `SupportsPresence`."""

    # Coming and going.

    async def test_many_tabs_on_several_workers_make_one_join_and_one_leave(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room(three)
        tabs = [(worker, worker.new_socket("ann")) for worker in (one, two, one)]
        made = [event for w, tab in tabs for event in (await w.enter(room, tab)).events]
        assert told(made) == joins("ann")
        made += [event for w, tab in tabs for event in (await w.leave(room, tab)).events]
        assert told(made) == joins("ann") + leaves("ann")
        for worker in three:
            assert await worker.heard_until(room, made[-1].version) == made

    async def test_a_batch_makes_the_events_that_its_parts_would(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann, bob, bob_too = (one.new_socket(user) for user in ("ann", "bob", "bob"))
        assert told((await one.enter(room, ann, bob, bob_too, ann)).events) == joins("ann", "bob")
        cem = one.new_socket("cem")
        changed = await one.adapter.change(
            room, one.lease, AT_ONCE, enter=[cem, bob], leave=[bob.sid, ann.sid]
        )
        assert told(changed.events) == leaves("ann") + joins("cem")
        changed = await one.leave(room, cem, bob, bob_too)
        heard = await two.heard_until(room, changed.version)
        assert told(changed.events) == leaves("cem", "bob")
        assert present_after(heard) == set()

    async def test_a_socket_that_becomes_somebody_elses_is_the_first_ones_no_more(
        self, three: Three
    ) -> None:
        one, *_ = three
        room = await common_room([one])
        ann = one.new_socket("ann")
        await one.enter(room, ann)
        bob = ann._replace(user="bob")
        assert told((await one.enter(room, bob)).events) == leaves("ann") + joins("bob")
        assert (await one.snapshot(room))[1:] == ({"bob"}, {bob})
        await one.leave(room, bob)

    async def test_what_is_done_again_changes_nothing_and_tells_nothing(self, three: Three) -> None:
        one, *_ = three
        room = await common_room([one])
        ann = one.new_socket("ann")
        first = await one.enter(room, ann)
        again = await one.enter(room, ann)
        assert (again.events, again.version) == ((), first.version)
        assert await one.adapter.sums(one.lease, [room]) == [_sums(1, first.version, ann)]
        await one.leave(room, ann)
        assert (await one.leave(room, ann)).events == ()
        bob = one.new_socket("bob")
        joined = await one.enter(room, bob)
        heard = await one.heard_until(room, joined.version)
        assert told(heard) == joins("ann") + leaves("ann") + joins("bob")
        await one.leave(room, bob)

    async def test_a_chosen_sid_on_two_workers_is_two_sockets(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([one])
        ann, bob = Entry("chosen", "ann"), Entry("chosen", "bob")
        await one.enter(room, ann)
        await two.enter(room, bob)
        assert (await one.snapshot(room))[1:] == ({"ann", "bob"}, {ann, bob})
        assert told((await one.leave(room, ann)).events) == leaves("ann")
        (sums,) = await two.adapter.sums(two.lease, [room])
        assert (sums.sockets, sums.is_whole) == (1, True)
        assert told((await two.leave(room, bob)).events) == leaves("bob")

    async def test_rooms_users_and_sids_have_any_names(self, three: Three) -> None:
        one, two, _ = three
        key = secrets.token_hex(4)
        for name in ODD_NAMES:
            room = room_named(one.station, (key + name)[:255].encode())
            await two.station.subscribe(room.channel)
            socket = Entry((key + name)[:200], name)
            changed = await one.enter(room, socket)
            assert await two.heard_until(room, changed.version) == [*changed.events]
            assert (await two.snapshot(room))[1:] == ({name}, {socket})
            assert await two.adapter.is_present(room, name)
            assert await two.adapter.rooms_of_user("/", name) == [(key + name)[:255]]
            assert told((await one.leave(room, socket)).events) == leaves(name)

    # Graces.

    async def test_who_comes_back_within_the_grace_was_never_away(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([one])
        ann = one.new_socket("ann")
        joined = await one.enter(room, ann, terms=LATER)
        changed = await one.leave(room, ann, terms=LATER)
        assert changed.events == ()
        assert changed.next_leave is not None
        assert 0 < changed.next_leave <= LATER.grace
        assert (await two.snapshot(room))[1:] == ({"ann"}, set())
        assert await two.adapter.count(room) == 1
        assert await two.adapter.rooms_of(one.lease) == [room.name], "who would see to her?"
        again = two.new_socket("ann")
        changed = await two.enter(room, again, terms=LATER)
        assert changed == Changed(False, (), joined.version, None)
        await two.leave(room, again)
        assert (await one.enter(room)).next_leave is None
        assert await two.adapter.rooms_of(one.lease) == [], "it has nobody there any more"

    async def test_who_does_not_is_told_to_have_left_once_whoever_sweeps(
        self, three: Three
    ) -> None:
        room = await common_room(three)
        users = [f"user {number}" for number in range(250)]
        sockets = [[worker.new_socket(user) for user in users] for worker in three]
        for worker, own in zip(three, sockets, strict=True):
            await worker.enter(room, *own, terms=SOON)
        made: list[UserEvent] = []
        for worker, own in zip(three, sockets, strict=True):
            made += (await worker.leave(room, *own, terms=SOON)).events
        for some in await asyncio.gather(*(worker.swept(room) for worker in three)):
            made += some
        made.sort(key=lambda each: each.version)
        assert sorted(told(made)) == sorted(leaves(*users))
        for worker in three:
            heard = await worker.heard_until(room, made[-1].version)
            assert [each for each in heard if each.kind == "leave"] == made
            assert present_after(heard) == set()
            await worker.enter(room)  # none of its rooms any more

    # Versions.

    async def test_versions_have_no_hole_and_go_on_after_everyone_has_left(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room([two])
        last = 0
        for _ in range(5):
            ann = one.new_socket("ann")
            joined, left = await one.enter(room, ann), await one.leave(room, ann)
            assert joined.version > last
            assert left.version == joined.version + 1
            last = left.version

    async def test_a_count_that_begins_anew_begins_above_what_is_known(self, three: Three) -> None:
        one, *_ = three
        room, ann, known = await common_room([one]), one.new_socket("ann"), 2**52
        changed = await one.enter(room, ann, terms=AT_ONCE._replace(floor=known))
        assert changed.version == known + 1
        await one.leave(room, ann)

    @pytest.mark.parametrize("how", ["floor", "heard"])
    async def test_a_count_that_has_fallen_begins_anew_above_what_is_known_for_all(
        self, three: Three, how: str
    ) -> None:
        one, two, _ = three
        room = await common_room([one])
        ann, bob, cem = one.new_socket("ann"), one.new_socket("bob"), two.new_socket("cem")
        known = (await one.enter(room, ann)).version + 1
        terms = AT_ONCE._replace(floor=known) if how == "floor" else AT_ONCE._replace(heard=known)
        raised = (await one.enter(room, terms=terms)).version
        assert raised >= known
        assert (await two.enter(room, cem)).version == raised + 1
        assert (await one.enter(room, bob, terms=terms)).version == raised + 2, "it does not fall"
        await two.leave(room, cem)
        await one.leave(room, ann, bob)

    async def test_who_leaves_after_a_count_has_fallen_may_be_on_a_worker_that_repairs_it(
        self, three: Three
    ) -> None:
        one, two, _ = three
        room = await common_room([one])
        here, there = one.new_socket("ann"), two.new_socket("ann")
        joined = await one.enter(room, here)
        terms = AT_ONCE._replace(repair=600.0)
        await two.enter(room, terms=terms._replace(floor=joined.version + 1))
        left = await one.leave(room, here, terms=terms)
        assert left.events == ()
        assert left.next_leave is not None
        assert (await two.enter(room, there, quiet=True)).next_leave is None
        assert told((await two.leave(room, there)).events) == leaves("ann")
        await one.enter(room)  # none of its rooms any more

    async def test_what_was_only_heard_raises_a_count_to_where_one_might_be(
        self, three: Three
    ) -> None:
        one, *_ = three
        room, ann, bob = await common_room([one]), one.new_socket("ann"), one.new_socket("bob")
        before = (await one.enter(room, ann)).version
        made_up = AT_ONCE._replace(heard=2**52)
        assert (await one.enter(room, bob, terms=made_up)).version == before + 1
        assert (await one.leave(room, ann, bob, terms=made_up)).version == before + 3

    # Questions.

    async def test_all_of_a_large_room_is_in_its_pages(self, three: Three) -> None:
        one, two, three_ = three
        room = await common_room([three_])
        own = [[w.new_socket(f"user {n}") for n in range(MANY)] for w in (one, two)]
        await asyncio.gather(one.enter(room, *own[0]), two.enter(room, *own[1]))
        version, users, entries = await three_.snapshot(room)
        assert users == {f"user {n}" for n in range(MANY)}
        assert entries == {*own[0], *own[1]}
        assert await three_.adapter.count(room) == MANY
        heard = await three_.heard_until(room, version)
        assert present_after(heard) == users
        await asyncio.gather(one.leave(room, *own[0]), two.leave(room, *own[1]))
        assert await three_.adapter.count(room) == 0

    async def test_a_snapshot_and_what_is_told_after_it_miss_nobody(self, three: Three) -> None:
        one, two, three_ = three
        room = await common_room([three_])
        stay = [two.new_socket(f"stays {n}") for n in range(400)]
        await two.enter(room, *stay)
        churning, names = True, [f"churns {n}" for n in range(30)]

        async def churn() -> None:
            while churning:
                some = [one.new_socket(name) for name in random.sample(names, 10)]
                await one.enter(room, *some)
                await one.leave(room, *some)

        task = asyncio.create_task(churn())
        snapshots = [await three_.snapshot(room) for _ in range(10)]
        churning = False
        await task
        heard = await three_.heard_until(room, (await two.leave(room, *stay)).version)
        for version, users, _ in snapshots:
            assert {entry.user for entry in stay} <= users
            present = {*users}
            for each in heard:
                if each.version > version:
                    (present.add if each.kind == "join" else present.discard)(each.user)
            assert present == set()

    async def test_where_a_user_is_can_be_asked_and_is_right_at_once(self, three: Three) -> None:
        one, two, _ = three
        names = sorted(f"{n} {secrets.token_hex(4)}" for n in range(5))
        rooms = [room_named(one.station, name.encode()) for name in names]
        ann = secrets.token_hex(8)
        sockets = [worker.new_socket(ann) for worker in (one, two)]
        for worker, socket in zip((one, two), sockets, strict=True):
            await asyncio.gather(*(worker.enter(room, socket) for room in rooms))
        assert sorted(await two.adapter.rooms_of_user("/", ann)) == names
        assert await two.adapter.rooms_of_user("/other", ann) == []
        assert sorted(await two.adapter.rooms_of(two.lease)) == [room.name for room in rooms]
        for worker, socket in zip((one, two), sockets, strict=True):
            await asyncio.gather(*(worker.leave(room, socket) for room in rooms[1:]))
        assert await one.adapter.rooms_of_user("/", ann) == names[:1]
        assert await two.adapter.rooms_of(two.lease) == [rooms[0].name]
        assert not await one.adapter.is_present(rooms[1], ann)
        await one.leave(rooms[0], sockets[0])
        await two.leave(rooms[0], sockets[1])

    async def test_of_a_room_that_never_was_there_is_nothing(self, three: Three) -> None:
        one, *_ = three
        room = await common_room([one])
        assert await one.snapshot(room) == (0, set(), set())
        assert await one.adapter.count(room) == 0
        assert not await one.adapter.is_present(room, "ann")
        assert await one.adapter.sums(one.lease, [room]) == [Sums(0, 0, 0, 0, is_whole=True)]
        assert await one.adapter.sweep(room, AT_ONCE) == Changed(False, (), 0, None)
        assert await one.leave(room, one.new_socket("ann")) == Changed(False, (), 0, None)

    # Putting in what is lost.

    async def test_what_is_put_in_quietly_is_not_told_and_counts(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann, bob = one.new_socket("ann"), one.new_socket("bob")
        assert (await one.enter(room, ann, quiet=True)).events == ()
        assert await two.adapter.count(room) == 1
        assert told((await one.enter(room, bob)).events) == joins("bob")
        left = await one.leave(room, ann, bob)
        assert told(left.events) == leaves("ann", "bob")
        assert told(await two.heard_until(room, left.version)) == joins("bob") + leaves(
            "ann", "bob"
        )

    async def test_sync_leaves_exactly_what_the_worker_has(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([two])
        ann, bob, cem = (one.new_socket(user) for user in ("ann", "bob", "cem"))
        other = two.new_socket("ann")
        await two.enter(room, other)
        await one.enter(room, ann, bob)
        changed = await one.adapter.sync(room, one.lease, AT_ONCE, [bob, cem])
        assert told(changed.events) == [], "ann is still there, by another worker"
        assert (await two.snapshot(room))[2] == {other, bob, cem}
        assert await one.adapter.sums(one.lease, [room]) == [_sums(1, changed.version, bob, cem)]
        changed = await one.adapter.sync(room, one.lease, AT_ONCE, [])
        assert sorted(told(changed.events)) == leaves("bob", "cem")
        await two.leave(room, other)

    async def test_sums_tell_what_differs(self, three: Three) -> None:
        one, two, _ = three
        room = await common_room([one])
        ann, bob = one.new_socket("ann"), one.new_socket("bob")
        await one.enter(room, ann, bob)
        before = await one.adapter.sums(one.lease, [room])
        await one.enter(room, ann._replace(user="bob"), bob._replace(user="ann"))
        assert await one.adapter.sums(one.lease, [room]) != before
        (of_two,) = await two.adapter.sums(two.lease, [room])
        assert of_two.sockets == 0
        await one.leave(room, ann, bob)

    # All at once.

    async def test_joins_and_leaves_alternate_whatever_comes_at_once(self, three: Three) -> None:
        room = await common_room(three)
        rng = random.Random(7)  # noqa: S311 -- the same each time
        made: list[UserEvent] = []

        async def come_and_go(number: int) -> None:
            worker = three[number % 3]
            for _ in range(6):
                tabs = [worker.new_socket(f"user {rng.randrange(8)}") for _ in range(2)]
                made.extend((await worker.enter(room, *tabs, terms=SOON)).events)
                await asyncio.sleep(rng.random() * 0.02)
                made.extend((await worker.leave(room, *tabs, terms=SOON)).events)

        await asyncio.gather(*map(come_and_go, range(9)))
        for worker in three:
            made += await worker.swept(room)
            made += (await worker.enter(room)).events
        made.sort(key=lambda each: each.version)
        assert present_after(made) == set()
        for worker in three:
            assert await worker.heard_until(room, made[-1].version) == made


def _sums(lease: int, version: int, *entries: Entry) -> Sums:
    sockets, checksum = sums_of(entries)
    return Sums(lease, sockets, checksum, version, is_whole=True)
