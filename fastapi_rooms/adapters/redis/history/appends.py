"""Messages on their way into the history: those that wait, and the batch that is not answered.

One batch is under way at a time. Were there two, a script that Redis has forgotten could refuse the
first and not the second, and the order would be lost. What comes meanwhile is the next batch.

A batch that was written when the connection broke may have been done. It stays a batch, goes first,
and is marked: the script then looks for its messages before it appends them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from fastapi_rooms.adapters.command_queue import MIN_CANCELLED, ByteBudget
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.history.script import Message, Outcome
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position
from fastapi_rooms.errors import AdapterUnavailable

MAX_MESSAGES = 128
"""Messages of one batch: some half a millisecond of Redis."""

MAX_BYTES = 256 * 1024
"""Bytes of one batch; a longer message is one by itself."""


class Append(asyncio.Future[Position]):
    """A message, and its position once it has one. Cancelling takes back what was not written."""

    __slots__ = ("cost", "deadline", "message", "waits_in")

    message: Message
    cost: int
    """What it counts against the budget."""
    deadline: float
    waits_in: Appends | None
    """Where it waits to be written, while it does."""

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, and have it forgotten."""
        if not super().cancel(msg):
            return False
        if self.waits_in is not None:
            self.waits_in._cancelled(self)
        return True

    def fail(self, reason: str, *, uncertain: bool) -> bool:
        """Raise `AdapterUnavailable` in the caller; returns whether one was waiting."""
        if self.done():
            return False
        self.set_exception(AdapterUnavailable(reason, uncertain=uncertain))
        return True


class Batch:
    """Messages that are written together."""

    __slots__ = ("again", "appends", "is_by_eval", "messages")

    def __init__(self, appends: list[Append], *, again: bool = False) -> None:
        self.appends = appends
        self.messages = [append.message for append in appends]
        self.again = again
        """Whether it may have been done before."""
        self.is_by_eval = False
        """Whether Redis has forgotten the script, which is to be sent with it."""


class Queue(Protocol):
    """What a link appends: the messages of one order, which is `Appends`, or those of several."""

    @property
    def dropped(self) -> int:
        """How many were refused, or not answered in time."""

    def __bool__(self) -> bool:
        """Whether any is not in the history yet."""

    @property
    def first_deadline(self) -> float | None:
        """When the first of those that are still wanted is overdue."""

    def add(self, message: Message) -> Append:
        """Add a message. It fails at once if there is no room for it."""

    def orders(self) -> Iterable[Appends]:
        """Those whose next batch may be written now."""

    def rewind(self) -> None:
        """The connection is lost, and nobody knows what has been done of what was written."""

    def expire(self, now: float) -> bool:
        """Fail what has waited too long; returns whether any of it is under way."""

    def fail_all(self, reason: str) -> None:
        """Fail everything, written or not."""


class Appends:
    """Messages that are not in the history yet, in one order.

    Args:
        budget: what they count against.
        timeout: seconds until one fails that is not answered.
        why_waiting: says for errors why they are not answered now.
    """

    def __init__(
        self, budget: ByteBudget, *, timeout: float, why_waiting: Callable[[], str]
    ) -> None:
        self._budget = budget
        self._timeout = timeout
        self.why_waiting = why_waiting
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Append] = deque()
        self._cancelled_count = 0  # of those that still are in `_waiting`
        self._next: Batch | None = None
        self._under_way: Batch | None = None
        self.dropped = 0
        """How many were refused, or not answered in time."""

    def __bool__(self) -> bool:
        return bool(self._waiting or self._next or self._under_way)

    def orders(self) -> Iterable[Appends]:
        """Itself."""
        return (self,)

    @property
    def under_way(self) -> Batch | None:
        """The batch that was written and is not answered."""
        return self._under_way

    @property
    def first_deadline(self) -> float | None:
        """When the first of those that are still wanted is overdue."""
        batches = [batch.appends for batch in (self._under_way, self._next) if batch is not None]
        firsts = [next((a.deadline for a in some if not a.done()), None) for some in batches]
        firsts.append(self._waiting[0].deadline if self._waiting else None)
        return min((first for first in firsts if first is not None), default=None)

    # They come, and are written.

    def add(self, message: Message) -> Append:
        """Add a message. It fails at once if there is no room for it."""
        append = Append(loop=self._loop)
        append.waits_in = None
        cost = len(message.data) + ENTRY_BYTES
        budget = self._budget
        if budget.used + cost > budget.limit and budget.used:
            self.dropped += 1
            full = (
                f"What waits to be published takes {budget.used} bytes already, of {budget.limit} "
                f"allowed, where each message counts its length and {ENTRY_BYTES} bytes"
            )
            append.fail(f"{full} ({self.why_waiting()}).", uncertain=False)
            return append
        append.message, append.cost, append.waits_in = message, cost, self
        append.deadline = self._loop.time() + self._timeout
        budget.used += cost
        self._waiting.append(append)
        return append

    def next_batch(self) -> Batch | None:
        """What is to be written now, if anything; it is under way then."""
        if self._under_way is not None:
            return None
        batch, self._next = self._next or self._take(), None
        self._under_way = batch
        return batch

    def _take(self) -> Batch | None:
        taken: list[Append] = []
        size = 0
        while self._waiting and len(taken) < MAX_MESSAGES:
            append = self._waiting.popleft()
            if append.done():  # its caller was cancelled
                self._cancelled_count -= 1
                continue
            size += append.cost
            if taken and size > MAX_BYTES:
                self._waiting.appendleft(append)
                break
            append.waits_in = None
            taken.append(append)
        return Batch(taken) if taken else None

    # They are answered, or not.

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        """The batch has been done; this became of its messages."""
        batch, self._under_way = self._under_way, None
        assert batch is not None
        for append, (position, refusal, is_sent) in zip(batch.appends, outcomes, strict=True):
            self._budget.used -= append.cost
            if position is None:
                self.dropped += append.fail(
                    f"Redis refused to keep the message: {explain(refusal)}",
                    uncertain=is_sent or batch.again,
                )
            elif not append.done():
                append.set_result(position)

    def not_done(self, *, by_eval: bool = False) -> None:
        """Redis has not touched the batch: the same goes first. `by_eval` is with the script."""
        batch, self._under_way = self._under_way, None
        if batch is not None:
            batch.is_by_eval = by_eval
            self._next = batch

    def rewind(self) -> None:
        """The connection is lost, and nobody knows whether the batch was done: it goes first."""
        batch, self._under_way = self._under_way, None
        if batch is not None:
            kept = [append for append in batch.appends if not append.done()]
            self._budget.used -= sum(append.cost for append in batch.appends if append.done())
            self._next = Batch(kept, again=True) if kept else None

    # They fail.

    def expire(self, now: float) -> bool:
        """Fail what has waited too long; returns whether any of it is under way."""
        failed = f"Redis did not accept it in {self._timeout} s ({self.why_waiting()})."
        overdue = False
        if self._under_way is not None:  # its answer may still come
            for append in self._under_way.appends:
                if append.deadline <= now:
                    overdue = True
                    self.dropped += append.fail(failed, uncertain=True)
        if self._next is not None:
            again = self._next.again
            for append in self._next.appends:
                if append.deadline <= now:
                    self.dropped += append.fail(failed, uncertain=again)
            self._drop_done()
        while self._waiting and self._waiting[0].deadline <= now:
            append = self._waiting.popleft()
            if append.done():
                self._cancelled_count -= 1
                continue
            append.waits_in = None
            self._budget.used -= append.cost
            self.dropped += append.fail(failed, uncertain=False)
        return overdue

    def _drop_done(self) -> None:
        """Of the batch that goes first, drop what nobody waits for."""
        batch, self._next = self._next, None
        assert batch is not None
        kept = [append for append in batch.appends if not append.done()]
        self._budget.used -= sum(append.cost for append in batch.appends if append.done())
        if kept:
            self._next = Batch(kept, again=batch.again)
            self._next.is_by_eval = batch.is_by_eval

    def fail_all(self, reason: str) -> None:
        """Fail everything, written or not."""
        for batch, uncertain in ((self._under_way, True), (self._next, False)):
            for append in batch.appends if batch is not None else ():
                self._budget.used -= append.cost
                again = batch is not None and batch.again
                self.dropped += append.fail(reason, uncertain=uncertain or again)
        self._under_way = self._next = None
        while self._waiting:
            append = self._waiting.popleft()
            append.waits_in = None
            if not append.done():
                self._budget.used -= append.cost
                self.dropped += append.fail(reason, uncertain=False)
        self._cancelled_count = 0

    def _cancelled(self, append: Append) -> None:
        """A message that waits to be written is not wanted any more."""
        append.waits_in = None
        self._budget.used -= append.cost
        self._cancelled_count += 1
        if self._cancelled_count > max(MIN_CANCELLED, len(self._waiting) // 2):
            self._waiting = deque(append for append in self._waiting if not append.done())
            self._cancelled_count = 0
