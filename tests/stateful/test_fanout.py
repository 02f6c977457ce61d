"""The fan-out against an oracle that writes every message to every member by itself, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.worker.fanout import Fanout
from tests.stateful.settings import UNHURRIED
from tests.unit.support import FakeTransport

T = TypeVar("T")

ROOMS = ["a", "b", "c"]
SIDS = [f"s{n}" for n in range(60)]
names = st.sampled_from([*ROOMS, *SIDS[:4]])
targets = st.builds(
    Target,
    st.one_of(st.none(), st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)),
    st.lists(names, max_size=2).map(tuple),
)


class FanoutMachine(RuleBasedStateMachine):
    """Sends, joins, leaves and lets time pass; every member has what was sent to it, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.members: Membership[Transport] = Membership()
        self.transports = {sid: FakeTransport() for sid in SIDS}
        self.expected: dict[str, list[str]] = {sid: [] for sid in SIDS}
        self.volatile: set[str] = set()
        self.sent = 0
        self.looked_at = dict.fromkeys(SIDS, 0)
        """How many of its writes."""
        for number, sid in enumerate(SIDS):
            self.members.add(sid, self.transports[sid])
            self.members.join(sid, [sid, ROOMS[number % 3], *ROOMS[: number % 2]])
        self.fanout = self.in_loop(self.make)

    async def make(self) -> Fanout:
        return Fanout(max_lag=1.0)

    def in_loop(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self.loop.run_until_complete(work())

    @rule(
        messages=st.lists(st.tuples(targets, st.booleans()), min_size=1, max_size=8),
        volatile=st.booleans(),
        far=st.booleans(),
    )
    def send(self, messages: list[tuple[Target, bool]], volatile: bool, far: bool) -> None:
        """Send in one turn of the loop; some senders give up in the same turn."""

        async def send() -> None:
            for target, gives_up in messages:
                text, self.sent = str(self.sent), self.sent + 1
                if volatile:
                    self.volatile.add(text)
                excluded = self.members.excluded(target)
                receivers = [s for s in self.members.select(target.rooms) if s not in excluded]
                payload = Payload.of_text(text)
                if far:
                    assert self.fanout.receive(self.members, target, payload, volatile=volatile)
                else:
                    done = self.fanout.send(self.members, target, payload, volatile=volatile)
                    if done is not None and gives_up:
                        done.cancel()
                        continue
                for sid in receivers:
                    self.expected[sid].append(text)

        self.in_loop(send)

    @rule(sid=st.sampled_from(SIDS), rooms=st.lists(st.sampled_from(ROOMS), max_size=2))
    def join(self, sid: str, rooms: list[str]) -> None:
        self.members.join(sid, rooms)

    @rule(sid=st.sampled_from(SIDS), rooms=st.lists(st.sampled_from(ROOMS), max_size=2))
    def leave(self, sid: str, rooms: list[str]) -> None:
        self.members.leave(sid, rooms)

    @rule(turns=st.integers(1, 3))
    def pass_time(self, turns: int) -> None:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.in_loop(turn)

    @invariant()
    def everyone_has_the_beginning_of_what_was_sent_to_them(self) -> None:
        for sid, transport in self.transports.items():
            assert transport.texts == self.expected[sid][: len(transport.texts)]
            assert len(transport.writes) == len(transport.volatile)
            for number in range(self.looked_at[sid], len(transport.writes)):
                texts, volatile = transport.writes[number], transport.volatile[number]
                assert {text in self.volatile for text in texts} == {volatile}
            self.looked_at[sid] = len(transport.writes)

    def teardown(self) -> None:
        self.in_loop(self.fanout.written)
        for sid, transport in self.transports.items():
            assert transport.texts == self.expected[sid]
        assert self.fanout._backlog.total == 0
        self.loop.close()


TestFanout = FanoutMachine.TestCase
TestFanout.settings = UNHURRIED
