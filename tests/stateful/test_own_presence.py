"""What a worker tells of its own sockets, against a carrier that forgets, refuses and is not sure.

Whatever comes in between: when there is nothing left to tell, the carrier has exactly who is in;
and whoever it has not been told of is told as news, not put in quietly.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.core import own_presence
from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.core.presence import Entry, sums_of
from tests.stateful.settings import UNHURRIED

sids = st.sampled_from("123456")
users = st.sampled_from(["ann", "bob"])


@pytest.fixture(autouse=True)
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one change takes is soon there."""
    monkeypatch.setattr(own_presence, "MAX_CHANGES", 2)


class OwnPresenceMachine(RuleBasedStateMachine):
    """One room, and what a carrier has of it."""

    def __init__(self) -> None:
        super().__init__()
        self.room = OwnRoom()
        self.inside: dict[str, str] = {}
        self.carrier: dict[str, str] = {}
        self.under_way: tuple[bool, list[Entry], list[str]] | None = None

    @rule(sid=sids, user=users)
    def enter(self, sid: str, user: str) -> None:
        self.room.enter(Entry(sid, user))
        self.inside[sid] = user

    @rule(sid=sids)
    def leave(self, sid: str) -> None:
        self.room.leave(sid)
        self.inside.pop(sid, None)

    @rule()
    def forget(self) -> None:
        """The carrier has lost all of it, and that is found out."""
        self.carrier.clear()
        self.room.needs_sync = True

    @precondition(lambda self: self.room.is_due)
    @rule()
    def begin(self) -> None:
        if self.room.needs_sync and not self.room.has_news:
            entries = self.room.begin_sync()
            assert dict(entries) == self.inside
            self.under_way = (True, entries, [])
        else:
            change = self.room.begin_change(only_news=self.room.needs_sync)
            assert len(change.enter) + len(change.leave) <= own_presence.MAX_CHANGES
            self.under_way = (False, [*change.enter], [*change.leave])

    @precondition(lambda self: self.under_way is not None)
    @rule(is_done=st.booleans(), is_known=st.booleans(), is_fenced=st.booleans())
    def end(self, is_done: bool, is_known: bool, is_fenced: bool) -> None:
        """It is done, or not, and that is known, or not."""
        assert self.under_way is not None
        is_sync, enter, leave = self.under_way
        self.under_way = None
        if is_done:
            if is_sync:
                self.carrier.clear()
            for sid in leave:
                self.carrier.pop(sid, None)
            self.carrier.update(enter)
        if is_done and is_known:
            self.room.succeed(1)
        else:
            self.room.fail(is_sync=is_sync or is_fenced)

    @invariant()
    def what_is_in_is_known(self) -> None:
        entries = [Entry(*item) for item in self.inside.items()]
        assert {*self.room.entries} == {*entries}
        assert self.room.sums == sums_of(entries)
        assert self.room.has_sockets is bool(entries)

    @invariant()
    def what_is_told_is_so(self) -> None:
        if not (self.room.is_due or self.room.is_busy):
            assert self.carrier == self.inside
            assert bool(self.room) is bool(self.inside)

    def teardown(self) -> None:
        """It comes to an end when nothing fails any more."""
        for _ in range(20):
            if self.under_way is not None:
                self.end(is_done=True, is_known=True, is_fenced=False)
            if not self.room.is_due:
                break
            self.begin()
        assert self.carrier == self.inside


TestOwnPresence = OwnPresenceMachine.TestCase
TestOwnPresence.settings = UNHURRIED
