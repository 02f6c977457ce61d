"""A worker's log of a room against a carrier that loses messages, connections, writes and count.

The oracle knows the true chain. Whatever happens, nothing is delivered twice or out of order, and
what is missing was told. In the end the log is where the carrier is.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept, RoomLog, Stretch, after
from tests.stateful.settings import UNHURRIED

SIZE = 4


class RoomLogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.epochs = 0
        self.start_over()
        self.log: RoomLog[int] = RoomLog(SIZE)
        self.wire: list[tuple[str, int, Kept[int]]] = []
        self.reading: Stretch[int] | None = None
        self.delivered: list[int] = []
        self.run_begins = 0
        self.whole = True
        self.ever: dict[Position, list[int]] = {}
        self.finish(self.read_now())

    # The carrier.

    def start_over(self) -> None:
        self.epochs += 1
        self.epoch = f"{self.epochs:016x}"
        self.chain: list[Kept[int]] = []
        self.dropped = 0  # of the chain, no longer kept

    @property
    def top(self) -> Position:
        last = self.chain[-1] if self.chain else Kept(0, 0, 0)
        return Position(self.epoch, last.offset, last.tag)

    def kept(self) -> Stretch[int]:
        begin = max(self.dropped, len(self.chain) - SIZE - 1)
        is_known = begin == self.dropped  # the first has with it what it follows
        before = self.chain[begin - 1].tag if begin and is_known else 0 if is_known else None
        return Stretch(self.top, self.chain[begin:], before)

    @rule(arrives=st.booleans())
    def send(self, arrives: bool) -> None:
        self.made += 1
        before = self.top
        message = Kept(before.offset + 1, self.made, self.made)
        self.chain.append(message)
        if arrives:
            self.wire.append((self.epoch, before.tag, message))

    @rule()
    def flush(self) -> None:
        self.start_over()

    @rule(lost=st.integers(1, 3))
    def fail_over(self, lost: int) -> None:
        """The replica that takes over lacks the last messages."""
        del self.chain[-lost:]
        self.dropped = min(self.dropped, len(self.chain))

    @rule()
    def expire(self) -> None:
        self.dropped = len(self.chain)

    @rule()
    def clear(self) -> None:
        """Somebody has it forgotten, and all workers are told."""
        self.expire()
        self.log.forget()

    # The worker.

    @precondition(lambda self: self.wire)
    @rule()
    def arrive(self) -> None:
        self.log.receive(*self.wire.pop(0))
        self.deliver_some(2)

    @precondition(lambda self: self.wire)
    @rule()
    def arrive_twice(self) -> None:
        self.log.receive(*self.wire[0])

    @rule(count=st.integers(1, 5))
    def deliver_some(self, count: int) -> None:
        """Those whom it is for may not take all of it at once."""
        for _ in range(count):
            message = self.log.next()
            if message is None:
                return
            assert message.item not in self.delivered, "nothing twice"
            self.delivered.append(message.item)
            self.log.advance()

    @precondition(lambda self: self.log.needs_read and self.reading is None)
    @rule()
    def begin_read(self) -> None:
        self.reading = self.read_now()

    @precondition(lambda self: self.reading is not None)
    @rule(fails=st.booleans())
    def end_read(self, fails: bool) -> None:
        read, self.reading = self.reading, None
        assert read is not None
        if fails:
            self.log.fail_read()
        else:
            self.finish(read)

    @rule()
    def refresh(self) -> None:
        self.log.refresh()

    def read_now(self) -> Stretch[int]:
        since, kept = self.log.begin_read(), self.kept()
        if since is None:
            return kept
        return Stretch(kept.top, [m for m in kept.messages if m.offset >= since.offset])

    def finish(self, read: Stretch[int]) -> None:
        if not self.log.finish_read(read):
            self.run_begins = len(self.delivered)

    # What holds.

    @invariant()
    def in_order_and_without_a_hole_since_it_was_last_told(self) -> None:
        run = self.delivered[self.run_begins :]
        assert run == sorted(run)
        position = self.log.position
        assert position is not None
        if run and position.epoch == self.epoch and position.offset <= len(self.chain):
            place = self.chain[position.offset - 1] if position.offset else None
            if place is not None and place.tag == position.tag:  # on the carrier's chain
                true = [m.item for m in self.chain[: position.offset]]
                assert run == true[len(true) - len(run) :]

    @invariant()
    def who_resumes_gets_what_follows_or_is_refused(self) -> None:
        position = self.log.position
        assert position is not None
        known = self.log.recent(SIZE)
        for index, message in enumerate(known):
            at = Position(position.epoch, message.offset, message.tag)
            assert self.log.since(at) == known[index + 1 :]
            assert self.log.since(at._replace(tag=message.tag + 1000)) is None
            assert self.log.since(at._replace(epoch="f" * 16)) is None

    @invariant()
    def who_has_heard_something_gets_all_that_was_heard_since_or_is_refused(self) -> None:
        position = self.log.position
        assert position is not None
        run = self.delivered[self.run_begins :]
        for index, item in enumerate(run):
            offset = position.offset - (len(run) - 1 - index)
            since = self.log.since(Position(position.epoch, offset, item))
            assert since is None or [message.item for message in since] == run[index + 1 :]

    def teardown(self) -> None:
        while self.wire or self.reading or self.log.needs_read or self.log.position != self.top:
            if self.reading:
                self.end_read(fails=False)
            elif self.log.needs_read or not self.wire:  # a look at the top finds what is missing
                self.finish(self.read_now())
            else:
                self.arrive()
            self.deliver_some(100)
        assert self.log.position == self.top


TestRoomLog = RoomLogMachine.TestCase
TestRoomLog.settings = UNHURRIED


def test_a_position_before_the_first_message_is_followed_by_all_if_they_are_kept() -> None:
    messages = [Kept(1, 11, "a"), Kept(2, 12, "b")]
    top, start = Position("0" * 16, 2, 12), Position("0" * 16, 0, 0)
    assert after(Stretch(top, messages), start) == messages
    assert after(Stretch(top, messages[1:]), start) is None


def _log() -> tuple[RoomLog[str], Stretch[str]]:
    """A log that has read all that is kept, and that."""
    log, kept = RoomLog[str](SIZE), [Kept(1, 11, "a"), Kept(2, 12, "b")]
    log.begin_read()
    stretch = Stretch(Position("0" * 16, 2, 12), kept)
    assert log.finish_read(stretch)
    return log, stretch


def test_it_is_known_whether_all_is_being_read() -> None:
    log, kept = _log()
    assert not log.is_all_being_read()
    log.needs_read = True
    log.begin_read()
    assert not log.is_all_being_read(), "a part is"
    log.fail_read()
    log.refresh()
    log.begin_read()
    assert log.is_all_being_read()
    log.finish_read(kept)
    assert not log.is_all_being_read()


def test_who_wants_all_to_be_read_while_a_part_is_makes_it_read_again() -> None:
    log, kept = _log()
    log.needs_read = True
    assert log.begin_read() == kept.top
    log.refresh()
    log.finish_read(Stretch(kept.top, kept.messages[1:]))
    assert [message.item for message in log.recent(SIZE)] == ["a", "b"]
    assert log.needs_read
    assert log.begin_read() is None


def test_a_read_of_all_that_failed_is_tried_again_as_one() -> None:
    log, _ = _log()
    log.refresh()
    log.begin_read()
    log.fail_read()
    assert log.needs_read
    assert log.begin_read() is None
