"""What a client keeps, against an oracle that remembers everything that was said, in order.

The oracle replays all of it up to what was received, or handled, each time it is asked.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastapi_rooms.core.resumption import Resumption
from tests.stateful.settings import UNHURRIED

ROOMS = st.sampled_from(["tea", "bar"])


class ResumptionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.kept: Resumption[int] = Resumption({"old": "0"})
        self.said: list[tuple[str, str | None, int | None]] = []  # room, position, message
        self.messages = 0
        self.taken = 0
        self.is_busy = False

    def positions(self, *, handled: bool) -> dict[str, str]:
        """What was said sets positions, up to the first message that is not handled."""
        positions: dict[str, str] = {"old": "0"}
        done = self.taken - self.is_busy
        for room, position, message in self.said:
            if handled and message is not None and message >= done:
                break
            if position is None:
                positions.pop(room, None)
            else:
                positions[room] = position
        return positions

    @rule(room=ROOMS)
    def message(self, room: str) -> None:
        position = f"{len(self.said)}"
        assert self.kept.put(self.messages, room, position)
        assert not self.kept.put(self.messages, room, position)
        self.said.append((room, position, self.messages))
        self.messages += 1

    @rule()
    def message_without_a_place(self) -> None:
        assert self.kept.put(self.messages)
        self.said.append(("", None, self.messages))
        self.messages += 1

    @rule(room=ROOMS)
    def position(self, room: str) -> None:
        self.kept.moved(room, f"{len(self.said)}")
        self.said.append((room, f"{len(self.said)}", None))

    @rule(room=ROOMS)
    def leave(self, room: str) -> None:
        self.kept.left(room)
        self.said.append((room, None, None))

    @rule(room=ROOMS, recovered=st.sampled_from([True, False, None]))
    def join(self, room: str, recovered: bool | None) -> None:
        was_there = room in self.positions(handled=False)
        told = self.kept.joined(room, recovered)
        assert told == (None if recovered is None and not was_there else recovered is True)
        if recovered is not True:
            self.said.append((room, None, None))

    @rule()
    def take(self) -> None:
        item = self.kept.take()
        self.is_busy = self.taken < self.messages
        assert item == (self.taken if self.is_busy else None)
        self.taken += self.is_busy

    @rule()
    def finish(self) -> None:
        self.kept.finish()
        self.is_busy = False

    @invariant()
    def positions_are_those_of_what_was_said(self) -> None:
        assert self.kept.received == self.positions(handled=False)
        assert self.kept.handled == self.positions(handled=True)
        assert len(self.kept) == self.messages - self.taken


TestResumption = ResumptionMachine.TestCase
TestResumption.settings = UNHURRIED
