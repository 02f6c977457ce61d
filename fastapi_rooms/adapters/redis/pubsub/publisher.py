"""The publishing connection: what is published in one turn of the event loop travels together.

Strategy: `publish` queues a command and waits for its reply's future. The queue is written once
per loop turn, in one write, without waiting for earlier replies. Redis answers in order, so the
replies are matched by position. What is unanswered when the connection breaks may or may not have
reached Redis; it goes out again on the next one, in the old order and before everything newer.
Receivers know each envelope by its origin and rising sequence and drop what they have seen.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import hiredis

from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.link import Link, pack
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.redis.pubsub.failover_gaps import Span
from fastapi_rooms.adapters.redis.slots import NO_SLOT
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel

_numbers = itertools.count()


class Command:
    """One command on its way, until it is answered or given up."""

    __slots__ = ("accepted", "data", "deadline", "number", "raw", "slot")

    def __init__(
        self,
        data: bytes,
        accepted: asyncio.Future[Any] | None,
        deadline: float,
        slot: int,
        *,
        raw: bool,
    ) -> None:
        self.data = data
        self.accepted = accepted  # nobody waits for a volatile one
        self.deadline = deadline
        self.slot = slot
        self.raw = raw  # whoever waits takes an error as an answer
        self.number = next(_numbers)

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.accepted is None or self.accepted.done()

    def fail(self, reason: str) -> bool:
        """Tell whoever waits; returns whether anyone did."""
        if self.accepted is None or self.accepted.done():
            return False
        self.accepted.set_exception(AdapterUnavailable(reason))
        return True


class Budget:
    """How many bytes wait to be accepted, of how many that may; publishers can share one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0


class RedirectHandler(Protocol):
    """Whoever has several publishers, and moves commands between them."""

    def answered(
        self, publisher: Publisher, command: Command, error: hiredis.ReplyError | None
    ) -> bool:
        """A channel's command is answered; returns whether it is taken over, to be sent again."""


class Publisher:
    """Publishes in order over one supervised link, through short outages."""

    def __init__(
        self,
        source: Source,
        changed: Callable[[], None],
        *,
        connect_timeout: float,
        timeout: float,
        budget: Budget,
        verb: bytes = b"PUBLISH",
        overseer: RedirectHandler | None = None,
    ) -> None:
        self._source = source
        self._changed = changed
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._budget = budget
        self._verb = verb
        self._overseer = overseer
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._queue: deque[Command] = deque()
        self._unanswered: deque[Command] = deque()
        self._flush_scheduled = False
        self._expiry: asyncio.TimerHandle | None = None
        self._place: object = None
        self._sound = 0.0
        self._is_stale = False
        self._left: Span | None = None
        self.strayed: Span | None = None
        """When what was published may have reached nobody: on a node that was left for another."""
        self.why_down = ""
        self.refused = False
        self.refusal = ""
        """What Redis last said instead of taking a message; whoever has read it empties it."""
        self.dropped = 0
        """How many messages were not accepted."""

    @property
    def connected(self) -> bool:
        """Whether there is a link."""
        return self._link is not None

    @property
    def link(self) -> Link | None:
        """The present link."""
        return self._link

    def abort(self, reason: str) -> None:
        """Give the present link up; the supervisor makes another."""
        if self._link is not None:
            self._link.abort(reason)

    def publish(self, channel: Channel, data: bytes, slot: int = NO_SLOT) -> asyncio.Future[int]:
        """Publish; the future is done when Redis has accepted it.

        Its result is the number of subscribers that Redis told us. It fails with
        `AdapterUnavailable` if Redis refuses it, or does not accept it in time.
        """
        accepted: asyncio.Future[Any] = self._loop.create_future()
        budget = self._budget
        if budget.used + len(data) > budget.limit and budget.used:
            self.dropped += 1
            full = f"{budget.used} bytes wait to be published already, of {budget.limit} allowed"
            accepted.set_exception(AdapterUnavailable(f"{full} ({self._state()})."))
            return accepted
        self._enqueue(pack(self._verb, channel, data), accepted, slot)
        return accepted

    def publish_volatile(self, channel: Channel, data: bytes, slot: int = NO_SLOT) -> None:
        """Send it in this turn, or drop it when there is no link or the link is behind."""
        budget = self._budget
        if self._link is None or not self._link.writable or budget.used > budget.limit:
            self.dropped += 1
        else:
            self._enqueue(pack(self._verb, channel, data), None, slot)

    async def ask(self, *command: bytes) -> Any:
        """Redis' reply to any command. Raises `AdapterUnavailable` for an error, or none."""
        reply = await self._answer(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise AdapterUnavailable(f"Redis refused it: {reply}")
        return reply

    async def try_out(self, channel: Channel, data: bytes) -> hiredis.ReplyError | None:
        """Publish something that nobody needs; return the error if it is refused."""
        reply = await self._answer(self._verb, channel, data)
        return reply if isinstance(reply, hiredis.ReplyError) else None

    async def why_not_master(self) -> str:
        """Why the node is not one to publish on; empty if it is. Raises if no answer comes."""
        link = self._link
        if link is None:
            return ""
        asked = time.time()
        problem = await role.ask(self._answer, link.protocol)
        if problem:
            self._is_stale = True
        elif link is self._link:
            self._sound = asked
        return problem and f"{link.address} is no use, {problem}"

    async def _answer(self, *command: bytes) -> Any:
        """The reply, of an error too. Raises `AdapterUnavailable` if none comes in time."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._enqueue(pack(*command), answer, NO_SLOT, raw=True)
        return await answer

    def _enqueue(
        self,
        packed: bytes,
        accepted: asyncio.Future[Any] | None,
        slot: int,
        *,
        raw: bool = False,
    ) -> None:
        deadline = self._loop.time() + self._timeout
        self._queue.append(Command(packed, accepted, deadline, slot, raw=raw))
        self._budget.used += len(packed)
        self._schedule()

    def _schedule(self) -> None:
        if self._link is not None and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)
        if self._expiry is None and self._queue:
            self._expiry = self._loop.call_at(self._queue[0].deadline, self._expire)

    def _flush(self) -> None:
        self._flush_scheduled = False
        link = self._link
        if link is None or not link.writable or not self._queue:
            return
        commands = list(self._queue)
        self._queue.clear()
        self._unanswered.extend(commands)
        link.write(b"".join([command.data for command in commands]))

    # What the link and its supervisor call.

    async def open(self) -> Link:
        """A link whose replies come here."""
        return await self._source.open(self.reply, self._connect_timeout)

    def link_up(self, link: Link) -> None:
        """Write what waits, what was unanswered first."""
        place = (link.address, link.peer)
        if self._left is not None and (self._is_stale or place != self._place):
            since = self._left.since if self.strayed is None else self.strayed.since
            self.strayed = Span(since, self._left.until)
        self._place, self._left, self._is_stale = place, None, False
        self._sound = time.time()
        self._link = link
        link.on_writable = self._flush
        self._flush()
        self._changed()

    def link_down(self, reason: str, *, refused: bool = False) -> None:
        """Keep what is unanswered for the next link."""
        if self._link is not None:
            self._left = Span(self._sound, self._link.last_received)
        self._link = None
        self.why_down, self.refused = reason, refused
        self.put(self._take_unanswered())
        self._changed()

    def reply(self, reply: Any) -> None:
        """Redis' answer to the oldest unanswered command."""
        if isinstance(reply, hiredis.PushNotification) or not self._unanswered:
            return  # nothing we asked for: a maintenance notice of a hosted Redis, say
        command = self._unanswered.popleft()
        error = reply if isinstance(reply, hiredis.ReplyError) else None
        if (
            self._overseer is not None
            and command.slot != NO_SLOT
            and self._overseer.answered(self, command, error)
        ):
            return
        self._budget.used -= len(command.data)
        if error is not None and not command.raw:
            self.dropped += 1
            command.fail(f"Redis refused to publish: {error}")
            self._note(str(error))
        elif command.accepted is not None and not command.accepted.done():
            command.accepted.set_result(reply if command.raw or isinstance(reply, int) else 0)

    def _note(self, refusal: str) -> None:
        """Redis may refuse everything for a while: with BUSY while it runs a script, for example.

        A channel we may not publish on is that channel's own trouble.
        """
        if not self.refusal and not refusal.startswith("NOPERM"):
            self.refusal = refusal
            self._changed()

    # What an overseer calls.

    def put(self, commands: Iterable[Command]) -> None:
        """Take over commands of another publisher, or of a lost link: the oldest goes first."""
        commands = list(commands)
        if commands:
            self._queue = deque(sorted((*commands, *self._queue), key=lambda c: c.number))
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None
            self._schedule()

    def take_unsent(self, which: Callable[[Command], bool]) -> list[Command]:
        """Give away what has not been written yet."""
        taken = [command for command in self._queue if which(command)]
        if taken:
            self._queue = deque(command for command in self._queue if not which(command))
        return taken

    def take_all(self) -> list[Command]:
        """Give away everything that anyone waits for: it will not be written here again."""
        commands = [*self._take_unanswered(), *self._queue]
        self._queue.clear()
        return commands

    @property
    def slots_in_flight(self) -> set[int]:
        """The slots of what has been written and not been answered."""
        return {command.slot for command in self._unanswered}

    def _take_unanswered(self) -> list[Command]:
        again = [command for command in self._unanswered if not command.given_up]
        self._budget.used -= sum(len(c.data) for c in self._unanswered if c.given_up)
        self._unanswered.clear()
        return again

    def _expire(self) -> None:
        """Fail what has waited too long; a link that answers nothing for so long is given up."""
        self._expiry = None
        now = self._loop.time()
        for command in self._unanswered:
            if command.deadline <= now:
                self._fail(command)
                if self._link is not None:
                    self._link.abort(f"no answer to {self._verb.decode()} for {self._timeout} s")
        while self._queue and self._queue[0].deadline <= now:
            command = self._queue.popleft()
            self._budget.used -= len(command.data)
            self._fail(command)
        deadlines = [c.deadline for c in self._unanswered if c.deadline > now]
        if self._queue:
            deadlines.append(self._queue[0].deadline)
        if deadlines:
            self._expiry = self._loop.call_at(min(deadlines), self._expire)

    def _fail(self, command: Command) -> None:
        told = command.fail(f"Redis did not accept it in {self._timeout} s ({self._state()}).")
        self.dropped += told and not command.raw

    def close(self) -> None:
        """Fail whoever still waits."""
        if self._expiry is not None:
            self._expiry.cancel()
        for command in (*self._unanswered, *self._queue):
            command.fail("The manager was closed.")
            self._budget.used -= len(command.data)
        self._unanswered.clear()
        self._queue.clear()

    def _state(self) -> str:
        return "connected, but no answer comes" if self.connected else self.why_down
