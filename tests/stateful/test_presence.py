"""Who is present in a room, against an oracle that keeps nothing but who has which sockets where.

Workers come, are declared dead, thaw, and write under whatever lease they believe in; users have
several sockets, also of one sid on two workers, and their grace runs out.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastapi_rooms.core.presence import (
    SWEPT_AT_ONCE,
    Changed,
    Entry,
    Lease,
    Leases,
    RoomPresence,
    sums_of,
)
from tests.stateful.settings import UNHURRIED

NODES = [digit * 16 for digit in "abc"]
nodes = st.sampled_from(NODES)
sids = st.sampled_from([*(f"{number:016}" for number in range(3)), "chosen", "own"])
users = st.sampled_from(["ann", "bob", "Grüße 🎉"])
entries = st.lists(st.builds(Entry, sids, users), max_size=4)
graces = st.sampled_from([0, 0, 50, 1000])


def sid_of(node: str, sid: str) -> str:
    """A sid that a worker has generated, or one that was chosen."""
    return f"{node}.{sid}" if sid.isdecimal() else sid


def entries_of(node: str, some: list[Entry]) -> list[Entry]:
    """A worker's sockets."""
    return [Entry(sid_of(node, sid), user) for sid, user in some]


class PresenceMachine(RuleBasedStateMachine):
    """One room, and three workers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000
        self.room, self.leases = RoomPresence(), Leases()
        self.lease = dict.fromkeys(NODES, 0)  # what each worker believes to have
        # The oracle.
        self.sockets: dict[tuple[str, str], str] = {}  # of a node and a sid
        self.ends: dict[str, int] = {}  # of graces
        self.told: set[str] = set()  # who is present, as the events have it
        self.last = 0
        self.fenced = dict.fromkeys(NODES, 0)

    @initialize()
    def start(self) -> None:
        for node in NODES:
            self.beat(node, reaps=False)

    @rule(node=nodes, reaps=st.booleans())
    def beat(self, node: str, reaps: bool) -> None:
        before = Lease(node, self.lease[node])
        after = self.leases.beat(before, self.now, 10_000)
        assert after.number - before.number in (0, 1)
        self.lease[node] = after.number
        if reaps:
            for dead in self.leases.overdue(self.now, 100):
                self.reap(dead)
                self.leases.bury(dead)

    def reap(self, dead: Lease) -> None:
        own = self.room.sums(dead.node)
        mine = [entry.sid for entry in self.room.entries_of(dead.node)]
        changed = self.room.reap(dead, self.now, grace=50, start=self.now * 1000, leave=mine)
        assert changed.fenced is (own.lease > dead.number)
        if not changed.fenced:
            self.fenced[dead.node] = max(self.fenced[dead.node], dead.number)
            self.leave(dead.node, mine, 50)
        self.settle(changed)

    @rule(
        node=nodes,
        enter=entries,
        leave=st.lists(sids, max_size=3),
        grace=graces,
        again=st.booleans(),
    )
    def change(
        self, node: str, enter: list[Entry], leave: list[str], grace: int, again: bool
    ) -> None:
        lease = Lease(node, self.lease[node])
        enter, leave = entries_of(node, enter), [sid_of(node, sid) for sid in leave]
        arguments: dict[str, Any] = {
            "grace": grace,
            "enter": enter,
            "leave": leave,
            "start": self.now * 1000,
        }
        arguments["start"] = self.now * 1000
        changed = self.room.change(lease, self.now, **arguments)
        assert changed.fenced is (self.fenced[node] >= lease.number)
        if not changed.fenced:
            self.leave(node, leave, grace)
            for sid, user in enter:
                if self.sockets.get((node, sid), user) != user:
                    self.leave(node, [sid], grace)
                self.sockets[node, sid] = user
                self.ends.pop(user, None)
        self.settle(changed)
        if again and {entry.sid for entry in enter}.isdisjoint(leave) and len(enter) < 2:
            repeated = self.room.change(lease, self.now, **arguments)
            assert not repeated.events

    def leave(self, node: str, some: list[str], grace: int) -> None:
        for sid in some:
            user = self.sockets.pop((node, sid), None)
            if user is not None and user not in self.sockets.values():
                self.ends[user] = self.now + grace

    @rule(passed=st.sampled_from([1, 49, 50, 1000, 11_000]))
    def let_time_pass(self, passed: int) -> None:
        self.now += passed

    @rule()
    def sweep(self) -> None:
        self.settle(self.room.sweep(self.now, start=self.now * 1000))

    def settle(self, changed: Changed) -> None:
        """Events are numbered without a hole, alternate, and lead to what the oracle has."""
        for event in changed.events:
            if self.told:
                assert event.version > self.last
            if self.last and self.told:
                assert event.version == self.last + 1
            self.last = event.version
            assert (event.kind == "join") is (event.user not in self.told)
            (self.told.add if event.kind == "join" else self.told.remove)(event.user)
        if not changed.fenced:
            assert len(self.ends) <= SWEPT_AT_ONCE
            self.ends = {user: end for user, end in self.ends.items() if end > self.now}
        first = min(self.ends.values(), default=None)
        expected = None if first is None else max(first - self.now, 0) / 1000
        assert changed.next_leave == expected

    @invariant()
    def the_room_is_as_it_should_be(self) -> None:
        present = {*self.sockets.values(), *self.ends}
        assert {*self.room.users} == present == self.told
        assert self.room.count == len(present)
        assert {*self.room.sids} == {sid for _, sid in self.sockets}
        found = Counter(self.room.entries)
        assert found == Counter(Entry(sid, user) for (_, sid), user in self.sockets.items())
        for node in NODES:
            own = [Entry(s, user) for (n, s), user in self.sockets.items() if n == node]
            assert self.room.sums(node)[1:3] == sums_of(own)
        if not present and not any(self.fenced.values()):
            assert self.room.forgotten_at() == 0


TestPresence = PresenceMachine.TestCase
TestPresence.settings = settings(UNHURRIED, max_examples=40, stateful_step_count=40)
