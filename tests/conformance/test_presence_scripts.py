"""The scripts in a real Redis do what `fastapi_rooms.core.presence` does, step by step.

The clock of Redis is replaced by one that the test sets. Keys are evicted, too: the truth as a
whole, as Redis evicts it, or what is made of it, which is repaired then.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Terms
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence import (
    lease_script,
    mend_script,
    replies,
    room_answer,
    room_script,
)
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.keys import keys_of, worker_key, workers_key
from fastapi_rooms.adapters.redis.presence.node import NodePresence
from fastapi_rooms.adapters.redis.presence.room_script import NOBODY, Step
from fastapi_rooms.core.presence import FENCE_TTL, Changed, Entry, Lease, Leases, RoomPresence
from fastapi_rooms.testing import RedisServer
from fastapi_rooms.wire import presence as event
from tests.stateful.settings import UNHURRIED
from tests.stateful.test_presence import NODES, entries, entries_of, graces, nodes, sid_of, sids

versions = st.sampled_from([0, 0, 0, None, 2**52])
"""Of a room, as a worker knows it; `None` for one to which the room has not come."""

PREFIX = b"scripts"
ROOM = RoomKey(b"/#tea", b"scripts#/#tea#")
KEYS = keys_of(PREFIX, ROOM.name)
TTL = 10.0


def by_our_clock(script: Script) -> Script:
    """The script, by the time that stands in a list."""
    return Script(
        script.text.replace(b"redis.call('TIME')", b"redis.call('LRANGE', 'clock', 0, 1)")
    )


def answer_of(redis: Any, command: bytes) -> Any:
    """The reply to a command as adapters write it."""
    reader = hiredis.Reader()
    reader.feed(command)
    return redis.execute_command(*reader.gets())


CHANGE = by_our_clock(room_script.PLAIN)
PRESENCE = NodePresence(None, "scripts")  # type: ignore[arg-type]  # of which only keys are asked


class ScriptMachine(RuleBasedStateMachine):
    """One room in Redis, and the same in Python."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        redis: Any = server.admin
        self.redis = redis
        self.redis.flushall()
        self.pubsub = self.redis.pubsub()
        self.pubsub.subscribe(ROOM.channel)
        assert self.pubsub.get_message(timeout=10)
        self.now = 1_700_000_000_000
        self.room, self.leases = RoomPresence(), Leases()
        self.let_time_pass(0)
        self.lease = {node: Lease(node, 0) for node in NODES}
        self.leases_ever: set[Lease] = set()
        self.found_by: set[Lease] = set()

    def teardown(self) -> None:
        self.pubsub.close()

    def ask(self, command: bytes) -> Any:
        return answer_of(self.redis, command)

    @initialize()
    def start(self) -> None:
        for node in NODES:
            self.beat(node, reaps=False)

    @rule(passed=st.sampled_from([1, 49, 50, 1000, 6000, 11_000, FENCE_TTL]))
    def let_time_pass(self, passed: int) -> None:
        self.now += passed
        self.redis.delete("clock")
        self.redis.rpush("clock", self.now // 1000, self.now % 1000 * 1000)
        if 0 <= self.room.forgotten_at() <= self.now:
            self.lose_the_truth()  # it has expired

    @rule(node=nodes, reaps=st.booleans())
    def beat(self, node: str, reaps: bool) -> None:
        self.renew(node, TTL, reaps=reaps)

    @rule(node=nodes)
    def give_back(self, node: str) -> None:
        self.renew(node, 0, reaps=False)

    def renew(self, node: str, ttl: float, *, reaps: bool) -> None:
        lease, lasts = self.lease[node], round(ttl * 1000)
        script, lease_script.SCRIPT = lease_script.SCRIPT, by_our_clock(lease_script.SCRIPT)
        try:
            command = lease_script.encode(PREFIX, lease, ttl, reaps=reaps, whole=True, limit=2)
        finally:
            lease_script.SCRIPT = script
        answer = lease_script.decode(self.ask(command), lease)
        late = self.leases.is_late(lease, self.now, lasts)
        self.lease[node] = self.leases.beat(lease, self.now, lasts)
        assert (answer.lease, answer.is_late) == (self.lease[node], late)
        self.leases_ever.add(answer.lease)
        last = self.now if reaps and not late else 0
        assert [*answer.overdue] == self.leases.overdue(last, 2)
        for dead in answer.overdue:
            self.reap(dead)
            self.leases.bury(dead)
            self.redis.zrem(workers_key(PREFIX), *lease_script.members_of(dead))

    def reap(self, dead: Lease) -> None:
        own = [entry.sid for entry in self.room.entries_of(dead.node)]
        step = Step("reap", ROOM, dead, Terms(0.05), leave=own)
        self.compare(
            step, self.room.reap(dead, self.now, grace=50, start=self.now * 1000, leave=own)
        )

    @rule(
        node=nodes,
        older=st.integers(0, 1),
        enter=entries,
        leave=st.lists(sids, max_size=3),
        grace=graces,
        quiet=st.booleans(),
        floor=versions,
        heard=versions,
        repair=graces,
    )
    def change(
        self,
        node: str,
        older: int,
        enter: list[Entry],
        leave: list[str],
        grace: int,
        quiet: bool,
        floor: int | None,
        heard: int | None,
        repair: int,
    ) -> None:
        lease = Lease(node, max(self.lease[node].number - older, 1))
        enter, leave = entries_of(node, enter), [sid_of(node, sid) for sid in leave]
        fallen = self.room.version + 3
        terms = Terms(
            grace / 1000,
            fallen if floor is None else floor,
            fallen if heard is None else heard,
            repair / 1000,
        )
        step = Step("change", ROOM, lease, terms, enter, leave, quiet)
        changed = self.room.change(
            lease,
            self.now,
            grace=grace,
            start=max(terms.floor, self.now * 1000),
            known=terms.known(self.now * 1000),
            repair=repair,
            enter=enter,
            leave=leave,
            quiet=quiet,
        )
        self.compare(step, changed)

    @rule()
    def sweep(self) -> None:
        self.compare(
            Step("sweep", ROOM, NOBODY, Terms(0.0)),
            self.room.sweep(self.now, start=self.now * 1000),
        )

    def compare(self, step: Step, expected: Changed) -> None:
        keys = PRESENCE._keys(step)
        reply = self.ask(room_script.encode(CHANGE, keys, step, whole=True))
        changed, sockets = room_answer.decode(reply)
        assert changed == expected
        assert sockets == len(self.room.entries_of(step.lease.node))
        self.note_what_leads_here(step, changed, is_empty=not sockets)
        told = [self.pubsub.get_message(timeout=10)["data"] for _ in changed.events]
        assert [event.decode(data).event for data in told] == [*changed.events]
        assert self.pubsub.get_message() is None

    def note_what_leads_here(self, step: Step, changed: Changed, *, is_empty: bool) -> None:
        """A worker's set has the room as long as it has to be reaped there."""
        is_over = is_empty and changed.next_leave is None
        if changed.fenced:
            if step.what == "reap":
                self.found_by.discard(step.lease)
            return
        if is_over:
            self.found_by.discard(step.lease)
        elif step.what == "change" and (step.enter or not step.leave):
            self.found_by.add(step.lease)
        for sid in step.leave:
            assert self.leads(b"socket", sid) == (sid in self.room.sids)
        for sid, user in step.enter:
            assert self.leads(b"socket", sid) == (sid in self.room.sids)
            assert self.leads(b"user", user)

    def leads(self, what: bytes, name: str) -> bool:
        key = b"%b:%b:/#%b" % (PREFIX, what, name.encode())
        return bool(self.redis.sismember(key, ROOM.name))

    # What is evicted.

    @rule()
    def lose_the_truth(self) -> None:
        self.redis.delete(KEYS.truth, KEYS.sids)
        gone, due = self.room._gone, self.room._due
        self.room = RoomPresence()
        self.room._gone, self.room._due = gone, due

    @rule(node=nodes)
    def come_back_after_a_loss(self, node: str) -> None:
        waiting = [*self.room._gone][:2]
        self.lose_the_truth()
        some = [Entry("own", user) for user in waiting]
        self.change(node, 0, some, [], 1000, quiet=False, floor=0, heard=0, repair=0)

    @rule()
    def lose_the_sids(self) -> None:
        self.redis.delete(KEYS.sids)
        assert self.is_whole() is not any(self.room.sids)
        self.mend([sid.encode() for sid in self.room.sids], [])

    @rule()
    def have_sids_too_many(self) -> None:
        self.redis.sadd(KEYS.sids, "nobody's")
        assert not self.is_whole()
        self.mend([b"nobody's"], [])

    @rule()
    def lose_who_is_in_their_grace(self) -> None:
        waiting = [user for user in self.room._gone if user in self.room._tabs]
        self.redis.delete(KEYS.gone)
        assert self.is_whole() is not any(waiting)
        self.mend([], [user.encode() for user in self.room.users])
        self.room._gone = dict.fromkeys(waiting, self.now + 50)
        self.room._due = [(self.now + 50, user) for user in waiting]
        heapq.heapify(self.room._due)

    def mend(self, some: Sequence[bytes], users: Sequence[bytes]) -> None:
        script, mend_script.SCRIPT = mend_script.SCRIPT, by_our_clock(mend_script.SCRIPT)
        try:
            command = mend_script.encode(PREFIX, ROOM, Terms(0.05), some, users, whole=True)
        finally:
            mend_script.SCRIPT = script
        assert self.ask(command) == 1
        assert self.is_whole()

    def is_whole(self) -> bool:
        meta = self.ask(pack(b"HMGET", KEYS.truth, *replies.SUMS_FIELDS, b"w" + b"0" * 16))
        counts = self.redis.scard(KEYS.sids), self.redis.zcard(KEYS.gone)
        return replies.sums_in(meta, *counts).is_whole

    # What holds.

    @invariant()
    def redis_has_what_it_should(self) -> None:
        room = self.room
        fields = self.redis.hgetall(KEYS.truth)
        page = replies.fields_in([b"0", [part for pair in fields.items() for part in pair]])
        assert page.malformed == 0
        assert {*page.sockets} == {(n, e) for n in NODES for e in room.entries_of(n)}
        assert page.users == room._tabs
        assert replies.number_in(fields.get(b"v")) == room.version
        assert replies.number_in(fields.get(b"n")) == room.count
        assert self.redis.smembers(KEYS.sids) == {sid.encode() for sid in room.sids}
        found_by = {it for it in self.leases_ever if self.redis.exists(worker_key(PREFIX, it))}
        assert found_by == self.found_by
        gone = {
            user.decode(): end for user, end in self.redis.zrange(KEYS.gone, 0, -1, withscores=True)
        }
        assert gone == room._gone
        for node in NODES:
            meta = [*self.redis.hmget(KEYS.truth, *replies.SUMS_FIELDS, f"w{node}")]
            sums = replies.sums_in(meta, self.redis.scard(KEYS.sids), len(gone))
            assert sums == room.sums(node)
        if not room.count and not room._fences:
            assert not self.redis.exists(KEYS.truth, KEYS.sids)


def test_the_scripts_do_what_the_state_does(redis_server: RedisServer) -> None:
    class Machine(ScriptMachine):
        def __init__(self) -> None:
            super().__init__(redis_server)

    run_state_machine_as_test(
        Machine,
        # Shrinking, with a server to ask, takes longer than a test may.
        settings=settings(
            UNHURRIED, max_examples=20, stateful_step_count=30, phases=[Phase.generate]
        ),
    )
    redis_server.admin.flushall()


@pytest.mark.parametrize("junk", [b"", b"x", b"-1", b"1e3", b"9" * 30, b"0x10", b"\xff", b"1 2"])
def test_a_script_goes_on_among_what_it_has_not_written(
    redis_server: RedisServer, junk: bytes
) -> None:
    redis: Any = redis_server.admin
    node = NODES[0]
    own = Entry("own", "ann")
    meta = dict.fromkeys(
        (b"v", b"n", b"m", b"g", b"f", b"r", b"=own", b"w%b" % node.encode()), junk
    )
    redis.hset(KEYS.truth, mapping=meta)
    for what in ("change", "reap", "sweep"):
        step = Step(what, ROOM, Lease(node, 1), Terms(0.0), [own] if what == "change" else [])
        keys = PRESENCE._keys(step)
        command = room_script.encode(room_script.PLAIN, keys, step, whole=True)
        changed, _ = room_answer.decode(answer_of(redis, command))
        assert not changed.fenced
    redis.flushall()
