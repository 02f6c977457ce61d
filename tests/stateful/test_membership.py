"""The two maps against an oracle that could not be simpler: a set of (sid, room) pairs."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from fastapi_rooms.core.membership import CrowdLeave, Joined, Left, Membership
from fastapi_rooms.core.target import Target
from tests.stateful.settings import UNHURRIED

ROOMS = ["a", "b", "c", "s0", "s1", "nowhere"]  # a sid is a room too
room_lists = st.lists(st.sampled_from(ROOMS), max_size=4)
targets = st.builds(
    Target,
    st.one_of(st.none(), room_lists.map(tuple)),
    room_lists.map(tuple),
)


class MembershipMachine(RuleBasedStateMachine):
    """Joins, leaves and comes and goes, and expects of the maps what the pairs say."""

    sids: Bundle[str] = Bundle("sids")

    def __init__(self) -> None:
        super().__init__()
        self.maps: Membership[str] = Membership()
        self.views = (self.maps.rooms, self.maps.sids)  # taken once: they must follow
        self.present: set[str] = set()
        self.pairs: set[tuple[str, str]] = set()
        self.kept: set[tuple[str, str]] = set()  # with those that are left, and not carried out
        self.some: list[CrowdLeave[str]] = []
        self.everything: list[CrowdLeave[str]] = []
        self.made = 0

    def rooms_now(self) -> set[str]:
        return {room for _, room in self.pairs}

    def rooms_kept(self) -> set[str]:
        return {room for _, room in self.kept}

    def sids_in(self, rooms: tuple[str, ...]) -> set[str]:
        return {sid for sid, room in self.pairs if room in rooms}

    @rule(target=sids)
    def add(self) -> str:
        sid = f"s{self.made}"
        self.made += 1
        self.maps.add(sid, sid.upper())
        self.present.add(sid)
        return sid

    @rule(sid=sids, rooms=room_lists)
    def join(self, sid: str, rooms: list[str]) -> None:
        if sid not in self.present or sid in self.disconnected():
            return
        left = {(sid, d.room) for d in self.maps.settle(sid) if sid in d.sids}
        assert left == {pair for pair in self.kept - self.pairs if pair[0] == sid}
        self.kept -= left
        before = self.rooms_kept()
        new = [r for r in dict.fromkeys(rooms) if (sid, r) not in self.pairs]
        joined = self.maps.join(sid, rooms)
        assert joined == Joined(tuple(new), tuple(r for r in new if r not in before))
        self.pairs |= {(sid, room) for room in new}
        self.kept |= {(sid, room) for room in new}

    @rule(sid=sids, rooms=room_lists)
    def leave(self, sid: str, rooms: list[str]) -> None:
        gone = [r for r in dict.fromkeys(rooms) if (sid, r) in self.kept]
        left = self.maps.leave(sid, rooms)
        self.pairs -= {(sid, room) for room in gone}
        self.kept -= {(sid, room) for room in gone}
        after = self.rooms_kept()
        assert left == Left(tuple(gone), tuple(r for r in gone if r not in after))

    @rule(sid=sids)
    def remove(self, sid: str) -> None:
        gone = {room for other, room in self.kept if other == sid}
        left = self.maps.remove(sid)
        self.present.discard(sid)
        self.pairs -= {(sid, room) for room in gone}
        self.kept -= {(sid, room) for room in gone}
        assert set(left.rooms) == gone
        assert len(left.rooms) == len(gone)
        assert set(left.deleted) == gone - self.rooms_kept()

    # Leaves of many.

    def disconnected(self) -> set[str]:
        return {sid for leave in self.everything for sid in leave.members}

    @rule(whom=targets, rooms=st.one_of(st.none(), room_lists))
    def begin_leave(self, whom: Target, rooms: list[str] | None) -> None:
        excluded = self.maps.excluded(whom)
        members = {s: m for s, m in self.maps.select(whom.rooms).items() if s not in excluded}
        if rooms is None:
            self.everything.append(self.maps.begin_leave(members.copy(), None))
            self.pairs = {pair for pair in self.pairs if pair[0] not in members}
        else:
            self.some.append(self.maps.begin_leave(members.copy(), tuple(rooms)))
            self.pairs = {
                (sid, room)
                for sid, room in self.pairs
                if not (sid in members and room in rooms) or sid == room
            }

    @rule(count=st.integers(1, 3))
    def carry_out(self, count: int) -> None:
        for leave in self.some:
            for departure in self.maps.carry_out(leave, count):
                left = {(sid, departure.room) for sid in departure.sids}
                assert left <= self.kept - self.pairs
                self.kept -= left
                assert departure.deleted == (departure.room not in self.rooms_kept())
        for leave in self.everything:
            for sid, member in self.maps.next_of(leave, count):
                assert member == sid.upper()
                self.remove(sid)

    def teardown(self) -> None:
        """In the end what counts is what there is."""
        while any(leave.members for leave in (*self.some, *self.everything)):
            self.carry_out(3)
        assert self.kept == self.pairs
        assert not self.maps._leaves

    @rule(sid=consumes(sids))
    def remove_for_good(self, sid: str) -> None:
        self.remove(sid)

    @rule()
    def clear(self) -> None:
        self.maps.clear()
        self.present.clear()
        self.pairs.clear()
        self.kept.clear()
        self.some.clear()
        self.everything.clear()

    @rule(whom=targets)
    def resolve(self, whom: Target) -> None:
        present = self.present - self.disconnected()
        addressed = present if whom.rooms is None else self.sids_in(whom.rooms)
        expected = addressed - self.sids_in(whom.except_)
        resolved = list(self.maps.resolve(whom))
        assert sorted(resolved) == sorted(sid.upper() for sid in expected)

    @invariant()
    def the_views_say_what_the_pairs_say(self) -> None:
        rooms, sids = self.views
        assert {r: set(m) for r, m in rooms.items()} == {
            room: self.sids_in((room,)) for room in self.rooms_now()
        }
        assert {s: set(r) for s, r in sids.items()} == {
            sid: {room for other, room in self.pairs if other == sid}
            for sid in self.present - self.disconnected()
        }
        assert len(rooms) == len(self.rooms_now())

    @invariant()
    def the_members_are_those_who_are_present(self) -> None:
        assert len(self.maps) == len(self.present)
        assert set(self.maps.members()) == {sid.upper() for sid in self.present}
        for number in range(self.made):
            sid = f"s{number}"
            assert self.maps.get(sid) == (sid.upper() if sid in self.present else None)


TestMembership = MembershipMachine.TestCase
TestMembership.settings = UNHURRIED
