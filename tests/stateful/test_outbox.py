"""An outbox against a plain list: offers, awaited items, and those that are taken back."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.outbox import MIN_DISCARDED, Entry, Outbox, OutboxPolicy, Verdict
from tests.stateful.settings import UNHURRIED

LIMIT = 10 * ENTRY_BYTES

# In entries' costs, so that a few items reach the limit; and next to nothing.
sizes = st.one_of(st.just(0), st.just(1), st.integers(0, 12).map(lambda n: n * ENTRY_BYTES))


@dataclass
class Item:
    """What the list knows of an item."""

    number: int
    cost: int
    awaited: bool


class OutboxMachine(RuleBasedStateMachine):
    """The oracle is slow and obvious: a list of what waits, gone through for every answer."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Item] = []
        self.tickets: list[tuple[Item, Entry[int, str]]] = []
        self.numbers = 0
        self.dropped = 0

    @initialize(overflow=st.sampled_from(["close", "drop_oldest", "drop_newest"]))
    def begin(self, overflow: str) -> None:
        self.overflow = overflow
        policy = OutboxPolicy(LIMIT, overflow)  # type: ignore[arg-type]
        self.outbox: Outbox[int, str] = Outbox(policy)

    def item(self, size: int, *, awaited: bool) -> Item:
        self.numbers += 1
        return Item(self.numbers, size + ENTRY_BYTES, awaited)

    @rule(size=sizes, buffered=st.sampled_from([0, 0, 1, 5 * ENTRY_BYTES, LIMIT]))
    def offer(self, size: int, buffered: int) -> None:
        item = self.item(size, awaited=False)
        verdict = self.outbox.offer(item.number, size, buffered=buffered)
        assert verdict is self.expected(item, LIMIT - buffered)

    def expected(self, item: Item, limit: int) -> Verdict:
        fits = self.cost(self.waiting) + item.cost <= limit
        if not self.waiting or fits:
            self.waiting.append(item)
            return Verdict.QUEUED
        if self.overflow == "close":
            return Verdict.OVERFLOW
        awaited = [each for each in self.waiting if each.awaited]
        cannot = bool(awaited) and self.cost(awaited) + item.cost > limit
        if self.overflow == "drop_newest" or cannot:
            self.dropped += 1
            return Verdict.DROPPED
        for each in list(self.waiting):
            if self.cost(self.waiting) + item.cost > limit and not each.awaited:
                self.waiting.remove(each)
                self.dropped += 1
        self.waiting.append(item)
        return Verdict.QUEUED

    @staticmethod
    def cost(items: list[Item]) -> int:
        return sum(item.cost for item in items)

    @rule(size=sizes, count=st.sampled_from([1, 1, 2, 40]))
    def push(self, size: int, count: int) -> None:
        for _ in range(count):
            item = self.item(size, awaited=True)
            self.tickets.append((item, self.outbox.push(item.number, size, f"{item.number}")))
            self.waiting.append(item)

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), count=st.sampled_from([1, 1, 2, 40]))
    def cancel(self, data: st.DataObject, count: int) -> None:
        """Senders are cancelled, some of them twice, or when their items have left already."""
        index = st.integers(0, len(self.tickets) - 1)
        for _ in range(count):
            item, entry = self.tickets[data.draw(index)]
            assert self.outbox.discard(entry) is (item in self.waiting)
            if item in self.waiting:
                self.waiting.remove(item)

    @precondition(lambda self: self.waiting)
    @rule(count=st.integers(1, 4))
    def pop(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            item = self.waiting.pop(0)
            waiter = f"{item.number}" if item.awaited else None
            assert self.outbox.pop() == (item.number, waiter)

    @rule()
    def clear(self) -> None:
        cleared = [number for number, _ in self.outbox.clear()]
        assert cleared == [item.number for item in self.waiting]
        self.waiting.clear()

    @invariant()
    def counts_what_waits(self) -> None:
        if self.numbers:
            assert len(self.outbox) == len(self.waiting)
            assert self.outbox.size == self.cost(self.waiting)
            assert self.outbox.dropped == self.dropped

    @invariant()
    def keeps_little_of_what_was_taken_back(self) -> None:
        if self.numbers:
            waiting = len(self.waiting)
            assert len(self.outbox._entries) <= max(2 * waiting, waiting + MIN_DISCARDED)

    def teardown(self) -> None:
        if self.numbers:
            self.clear()


OutboxMachine.TestCase.settings = UNHURRIED
TestOutbox = OutboxMachine.TestCase
