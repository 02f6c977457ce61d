"""Commands of one connection: those that wait to be written, and those that wait for an answer.

Strategy: a carrier answers in the order of the commands, so answers are matched by position. What
is unanswered when a connection breaks may or may not have reached the carrier; it goes back to the
front of the queue, to be written again in the old order and before everything newer. A queue
without a connection is a buffer: its commands wait for someone to take them, or expire.

Every command counts its bytes and `ENTRY_BYTES` against a budget, as long as it is in a queue. One
whose caller is cancelled before it was written leaves the queue, and is never written; what was
written cannot be taken back, and counts until it is answered.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

_numbers = itertools.count()


MIN_CANCELLED = 32
"""So many cancelled commands may stay in a queue, to be passed over, before it is tidied up."""


class Answer(asyncio.Future[Any]):
    """The answer to a command; whoever cancels it takes back what was not written yet."""

    __slots__ = ("cost", "queue")

    queue: CommandQueue | None
    """The queue in which the command waits to be written, while it does."""
    cost: int
    """What the command counts against that queue's budget."""

    def cancel(self, msg: Any = None) -> bool:
        """Cancel it, and have the queue forget the command."""
        if not super().cancel(msg):
            return False
        if self.queue is not None:
            self.queue._cancelled(self)
        return True


class Command:
    """One command to the carrier, until it is answered or its caller stops waiting."""

    __slots__ = ("accepted", "cost", "data", "deadline", "is_once", "is_query", "number", "shard")

    def __init__(
        self,
        data: bytes,
        accepted: Answer | None,
        deadline: float,
        shard: int | None,
        *,
        is_query: bool,
        is_once: bool = False,
    ) -> None:
        self.data = data
        self.cost = len(data) + ENTRY_BYTES
        """How many bytes it counts against the budget."""
        self.accepted = accepted
        """The answer; `None` for a volatile message, whose sender does not wait."""
        self.deadline = deadline
        self.shard = shard
        """The shard whose order it keeps; `None` where all commands are of one order."""
        self.is_query = is_query
        """Whether it asks something of its connection, and an error is an answer like any other."""
        self.is_once = is_once
        """Whether it fails, and is not written again, when its connection is lost."""
        self.number = next(_numbers)
        """Rises over all queues, so that commands keep their order when they are moved."""

    @property
    def is_cancelled(self) -> bool:
        """Whether its caller was cancelled."""
        return self.accepted is not None and self.accepted.cancelled()

    @property
    def is_abandoned(self) -> bool:
        """Whether no caller waits for it."""
        return self.accepted is None or self.accepted.done()

    def fail(self, reason: str) -> bool:
        """Raise `AdapterUnavailable` in the caller; returns whether one was waiting."""
        if self.accepted is None or self.accepted.done():
            return False
        self.accepted.set_exception(AdapterUnavailable(reason))
        return True


class ByteBudget:
    """How many bytes wait to be accepted, and how many may. Queues can share one.

    Each command counts its own bytes and `ENTRY_BYTES`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class CommandQueue:
    """The commands of one connection, or of none, in the order of their numbers.

    Args:
        encode: writes a message for a channel as a command.
        budget: what the commands count against.
        timeout: seconds until a command fails that is not answered.
        carrier: the carrier's name, for errors.
        why_waiting: says for errors why commands are not answered now.
        on_overdue: called when the carrier has not answered a written command in time.
    """

    def __init__(
        self,
        encode: Callable[[Channel, bytes], bytes],
        budget: ByteBudget,
        *,
        timeout: float,
        carrier: str,
        why_waiting: Callable[[], str],
        on_overdue: Callable[[], None] = lambda: None,
    ) -> None:
        self._encode = encode
        self._budget = budget
        self._timeout = timeout
        self._carrier = carrier
        self._why_waiting = why_waiting
        self._on_overdue = on_overdue
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Command] = deque()
        self._cancelled_count = 0  # of those that still are in `_waiting`
        self._unanswered: deque[Command] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self.dropped = 0
        """How many messages were refused for the budget, or were not accepted in time."""

    # Commands come.

    def publish(
        self, channel: Channel, data: bytes, shard: int | None = None, *, once: bool = False
    ) -> asyncio.Future[Any]:
        """Add a message; the future is done when the carrier has answered it.

        It fails with `AdapterUnavailable` if there is no room, or no answer in time; if it is to be
        written `once`, also when the connection is lost before the answer has come.
        """
        budget = self._budget
        command = self._encode(channel, data)
        if budget.used + len(command) + ENTRY_BYTES > budget.limit and budget.used:
            self.dropped += 1
            full = (
                f"What waits to be published takes {budget.used} bytes already, of {budget.limit} "
                f"allowed, where each message counts its length and {ENTRY_BYTES} bytes"
            )
            refused: asyncio.Future[Any] = self._loop.create_future()
            refused.set_exception(AdapterUnavailable(f"{full} ({self._why_waiting()})."))
            return refused
        accepted = Answer(loop=self._loop)
        self._add(command, accepted, shard, is_once=once)
        return accepted

    def publish_volatile(self, channel: Channel, data: bytes, shard: int | None = None) -> None:
        """Add a message whose sender does not wait; drop it if there is no room."""
        if self._budget.used > self._budget.limit:
            self.dropped += 1
        else:
            self._add(self._encode(channel, data), None, shard)

    def query(self, data: bytes) -> asyncio.Future[Any]:
        """Add a query about the connection, already encoded; the future is done when answered."""
        answer = Answer(loop=self._loop)
        self._add(data, answer, None, is_query=True)
        return answer

    def _add(
        self,
        data: bytes,
        accepted: Answer | None,
        shard: int | None,
        *,
        is_query: bool = False,
        is_once: bool = False,
    ) -> None:
        deadline = self._loop.time() + self._timeout
        command = Command(data, accepted, deadline, shard, is_query=is_query, is_once=is_once)
        self._waiting.append(command)
        self._budget.used += command.cost
        if accepted is not None:
            accepted.queue, accepted.cost = self, command.cost
        if self._expiry is None:
            self._expiry = self._loop.call_at(self._waiting[0].deadline, self._expire)

    def put(self, commands: Iterable[Command]) -> None:
        """Add commands taken from another queue: the oldest goes first."""
        commands = list(commands)
        self._budget.used += sum(command.cost for command in commands)
        self._merge(commands)

    def _merge(self, commands: list[Command]) -> None:
        self._tidy()
        if commands:
            for command in commands:
                if command.accepted is not None:
                    command.accepted.queue = self
            self._waiting = deque(sorted((*commands, *self._waiting), key=lambda c: c.number))
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry = self._loop.call_at(self._waiting[0].deadline, self._expire)

    # Commands are written, and answered.

    def next_batch(self) -> bytes:
        """Everything that waits, to be written now; from then on it is unanswered."""
        commands = self._take_waiting()
        self._unanswered.extend(commands)
        return b"".join([command.data for command in commands])

    @property
    def unanswered(self) -> int:
        """How many commands are written, and not answered."""
        return len(self._unanswered)

    def answered(self) -> Command | None:
        """The oldest unanswered command, which leaves the queue; `None` if there is none."""
        if not self._unanswered:
            return None
        command = self._unanswered.popleft()
        self._budget.used -= command.cost
        return command

    def refuse(self, which: Callable[[Command], bool], reason: str) -> None:
        """Fail some of what is unanswered: it is not written again."""
        for command in self._unanswered:
            if which(command):
                self.dropped += command.fail(reason) and not command.is_query

    def rewind(self) -> None:
        """The connection is lost: what is unanswered waits again, except what is abandoned."""
        self._merge(self._take_unanswered())

    # Commands are moved to another queue.

    @property
    def shards_in_flight(self) -> set[int]:
        """The shards of the unanswered commands."""
        return {command.shard for command in self._unanswered if command.shard is not None}

    def take_unsent(self, which: Callable[[Command], bool]) -> list[Command]:
        """Remove and return some of what has not been written yet."""
        self._tidy()
        taken = [command for command in self._waiting if which(command)]
        if taken:
            self._waiting = deque(command for command in self._waiting if not which(command))
            self._left(taken)
            self._budget.used -= sum(command.cost for command in taken)
        return taken

    def take_all(self) -> list[Command]:
        """Remove and return everything, except what was written and is abandoned."""
        commands = [*self._take_unanswered(), *self._take_waiting()]
        self._budget.used -= sum(command.cost for command in commands)
        return commands

    def _take_waiting(self) -> list[Command]:
        """What waits to be written; it still counts against the budget."""
        self._tidy()
        commands = list(self._waiting)
        self._waiting.clear()
        self._left(commands)
        return commands

    @staticmethod
    def _left(commands: Iterable[Command]) -> None:
        """These do not wait to be written any more: to cancel them changes nothing here."""
        for command in commands:
            if command.accepted is not None:
                command.accepted.queue = None

    def _take_unanswered(self) -> list[Command]:
        """What is unanswered and not abandoned; it still counts against the budget."""
        for command in self._unanswered:
            if command.is_once:
                self._fail_once(command)
        again = [command for command in self._unanswered if not command.is_abandoned]
        self._budget.used -= sum(c.cost for c in self._unanswered if c.is_abandoned)
        self._unanswered.clear()
        return again

    # Commands are cancelled.

    def _cancelled(self, answer: Answer) -> None:
        """A command that waits to be written is not wanted any more."""
        answer.queue = None
        self._budget.used -= answer.cost
        self._cancelled_count += 1
        if self._cancelled_count > max(MIN_CANCELLED, len(self._waiting) // 2):
            self._tidy()

    def _tidy(self) -> None:
        """Remove the cancelled commands from those that wait."""
        if self._cancelled_count:
            self._waiting = deque(c for c in self._waiting if not c.is_cancelled)
            self._cancelled_count = 0

    # Commands fail.

    def _expire(self) -> None:
        """Fail what has waited too long. What was written stays, as its answer may still come."""
        self._expiry = None
        self._tidy()
        now = self._loop.time()
        overdue = [command for command in self._unanswered if command.deadline <= now]
        for command in overdue:
            self._fail(command)
        if overdue:
            self._on_overdue()
        while self._waiting and self._waiting[0].deadline <= now:
            command = self._waiting.popleft()
            self._budget.used -= command.cost
            self._left((command,))
            self._fail(command)
        deadlines = [c.deadline for c in self._unanswered if c.deadline > now]
        if self._waiting:
            deadlines.append(self._waiting[0].deadline)
        if deadlines:
            self._expiry = self._loop.call_at(min(deadlines), self._expire)

    def _fail(self, command: Command) -> None:
        failed = command.fail(
            f"{self._carrier} did not accept it in {self._timeout} s ({self._why_waiting()})."
        )
        self.dropped += failed and not command.is_query

    def _fail_once(self, command: Command) -> None:
        self.dropped += command.fail(
            f"The connection to {self._carrier} was lost before it had answered: the message may "
            "have been sent, and is not sent again."
        )

    def close(self) -> None:
        """Fail the callers that still wait."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        for command in (*self._unanswered, *self._take_waiting()):
            command.fail("The manager was closed.")
            self._budget.used -= command.cost
        self._unanswered.clear()
