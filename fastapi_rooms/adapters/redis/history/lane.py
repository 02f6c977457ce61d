"""The connection for history and presence: one batch of messages, any number of questions.

It is a third connection, opened when it is first used. On the publisher's, what is unanswered when
it breaks is written again as it was, which a batch must not be; and a long history that is read
would hold up every message behind it.

What the user of Redis has to be allowed is tried before it is used, on every link.

Strategy: what is appended in one turn of the event loop is a batch, written at the end of that
turn; what comes while it is under way is the next one, written when it is answered. Questions are
written at once. There is no task and no await for a message.

Whether this connection is up says nothing of plain rooms, and they take no notice of it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.link_owner import LinkOwner
from fastapi_rooms.adapters.redis.history import rights
from fastapi_rooms.adapters.redis.history.appends import Appends, Batch, Queue
from fastapi_rooms.adapters.redis.history.exchanges import (
    Answers,
    Exchange,
    Exchanges,
    OneOf,
    Question,
)
from fastapi_rooms.adapters.redis.history.refusals import code_of
from fastapi_rooms.adapters.redis.history.script import PLAIN, Calls, Message, decode, encode
from fastapi_rooms.adapters.redis.links import role
from fastapi_rooms.adapters.redis.links.link import Link, pack
from fastapi_rooms.adapters.redis.links.owner import Opening
from fastapi_rooms.adapters.redis.links.source import Source
from fastapi_rooms.adapters.retries import FORBIDDEN_DELAY
from fastapi_rooms.adapters.supervisor import supervise
from fastapi_rooms.core.position import EPOCH_LENGTH, Position
from fastapi_rooms.errors import AdapterUnavailable

logger = logging.getLogger("fastapi_rooms")

CLOSED = "The manager was closed."

MIN_ALARM_DELAY = 0.005
"""Seconds between two looks for what is overdue."""


def _as_it_is(data: bytes) -> bytes:
    return data


def new_epoch() -> str:
    """A name for a numbering that never was: not to be written a second time."""
    return secrets.token_hex(EPOCH_LENGTH // 2)


class Lane(Opening, LinkOwner[Link]):
    """Appends messages and asks questions over one supervised link, through short outages.

    Args:
        source: opens the links.
        prefix: the first part of every key and channel.
        connect_timeout: seconds that opening a link may take.
        timeout: seconds that anything may take to be answered, outages included.
        patience: seconds without an answer after which a link is taken for dead.
        budget: how many bytes of messages may wait.
        calls: how the script is called.
    """

    def __init__(
        self,
        source: Source,
        prefix: str,
        *,
        connect_timeout: float,
        timeout: float,
        patience: float,
        budget: ByteBudget,
        calls: Calls = PLAIN,
    ) -> None:
        super().__init__(lambda: None, connect_timeout)
        self._source = source
        self._prefix = prefix
        self._key_prefix = prefix.encode()
        self._timeout = timeout
        self._patience = patience
        self._calls = calls
        self._appends: Queue = Appends(budget, timeout=timeout, why_waiting=self._state)
        self._exchanges = Exchanges()
        self._is_flush_scheduled = False
        self._has_had_link = False
        self.relinks = 0
        """How many links there were after the first."""
        self._is_ready = False  # the rights have been tried on this link, and none is missing
        self._needs: list[rights.Needs] = []  # for what
        self._missing = ""  # which are
        self._logged_missing = False
        self._is_closed = False
        self._supervision: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._next_trial: asyncio.TimerHandle | None = None

    @property
    def dropped(self) -> int:
        """How many messages were not accepted."""
        return self._appends.dropped

    # What is asked of it.

    def append(self, message: Message) -> asyncio.Future[Position]:
        """Number, keep and publish a message; the future is done when Redis has.

        It fails with `AdapterUnavailable`.
        """
        self._use(rights.HISTORY)
        append = self._appends.add(message)
        if refusal := self._refusal:
            self._appends.fail_all(refusal)
        else:
            self._schedule_flush()
        return append

    async def ask(
        self, encode: Callable[[], bytes], count: int, needs: rights.Needs = rights.HISTORY
    ) -> list[Any]:
        """The replies to `count` commands, errors included.

        `encode` is called whenever they are written, which is more than once if links break. Raises
        `AdapterUnavailable` if they are not answered in time, or the user of Redis may not do what
        `needs` says.
        """
        self._ensure_usable(needs)
        answer: asyncio.Future[list[Any]] = self._loop.create_future()
        self._exchanges.ask(Question(encode, count, answer, self._loop.time() + self._timeout))
        self._schedule_flush()
        return await answer

    async def ask_each(
        self,
        questions: Sequence[tuple[bytes, int]],
        needs: rights.Needs,
        answered: Callable[[int, list[Any] | AdapterUnavailable], None],
    ) -> None:
        """Ask several questions, each as by `ask`: commands, and how many these are.

        `answered` is called for each, with its place among them, as soon as its replies come, or
        with what `ask` would raise. Returns after the last.
        """
        self._ensure_usable(needs)
        answers, deadline = Answers(len(questions), answered), self._loop.time() + self._timeout
        for at, (data, count) in enumerate(questions):
            one = OneOf(answers, at)
            self._exchanges.ask(Question(partial(_as_it_is, data), count, one, deadline))
        if questions:
            self._schedule_flush()
            await answers.all

    def _ensure_usable(self, needs: rights.Needs) -> None:
        self._use(needs)
        if refusal := self._refusal:
            raise AdapterUnavailable(refusal)

    async def ensure_master(self) -> None:
        """Leave a node that is a replica, which may tell what is long past.

        Raises `AdapterUnavailable` if it is one, or does not answer.
        """
        (reply,) = await self.ask(partial(self._ask_for_role, 0), 1)
        if isinstance(reply, hiredis.ReplyError):
            (reply,) = await self.ask(partial(self._ask_for_role, 1), 1)
        if problem := role.why_not_master(reply):
            self.leave(problem)
            raise AdapterUnavailable(f"Redis cannot be asked: {problem}")

    def _ask_for_role(self, way: int) -> bytes:
        assert self._link is not None  # it is being written
        return pack(*role.commands(self._link.protocol)[way])

    def _use(self, needs: rights.Needs) -> None:
        """Something is about to be done for the first time: try whether it may be."""
        if needs in self._needs or self._is_closed:
            return
        self._needs.append(needs)
        if self._link is not None:
            self._is_ready = False
            self._try_rights()

    @property
    def _refusal(self) -> str:
        """Why nothing is taken; empty if it is."""
        return CLOSED if self._is_closed else self._missing

    def leave(self, problem: str = "it is a replica, not a master") -> None:
        """The node cannot be used: connect anew, to another one where there is one."""
        if self._link is not None:
            self.abort(role.unusable(self._link.address, problem))

    # What is written.

    def _schedule_flush(self) -> None:
        if self._is_flush_scheduled:
            return
        if self._supervision is None:
            self._supervision = asyncio.create_task(supervise(self), name="fastapi_rooms history")
        if self._alarm is None:
            self._set_alarm()
        if self._is_ready:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        link = self._link
        if link is None or not link.writable or not self._is_ready:
            return
        now = self._loop.time()
        chunks = []
        for appends in self._appends.orders():
            batch = appends.next_batch()
            if batch is None:
                continue
            call = self._calls.eval if batch.is_by_eval else self._calls.evalsha
            chunks.append(
                encode(call, self._key_prefix, batch.messages, new_epoch(), again=batch.again)
            )
            answered = partial(self._batch_answered, appends, batch)
            self._exchanges.written(Exchange(1, answered), now)
        chunks += self._exchanges.write_questions(now)
        if chunks:
            link.write(b"".join(chunks))

    # What is answered.

    def reply(self, reply: Any) -> None:
        """Redis' answer to the oldest unanswered command."""
        if not isinstance(reply, hiredis.PushNotification):
            self._exchanges.received(reply)

    def _batch_answered(self, appends: Appends, batch: Batch, replies: list[Any]) -> None:
        if appends.under_way is not batch:
            return  # it was failed meanwhile
        (reply,) = replies
        outcomes = decode(reply, batch.messages)
        code = code_of(outcomes[0].refusal)
        if code == "NOSCRIPT" and not batch.is_by_eval:
            appends.not_done(by_eval=True)
        elif code == "READONLY":
            appends.not_done()
            self.leave()
            return
        else:
            appends.answered(outcomes)
        self._go_on()

    def _go_on(self) -> None:
        """Write what has waited for a batch to be answered."""
        self._flush()

    # What the link and its supervisor call.

    def link_up(self, link: Link) -> None:
        """Try the rights; what waits is written when none is missing."""
        self._link = link
        self.relinks += self._has_had_link
        self._has_had_link = True
        link.on_writable = self._flush
        self._try_rights()

    def link_down(self, reason: str) -> None:
        """Keep what is unanswered for the next link."""
        self._link, self._is_ready = None, False
        if self._next_trial is not None:
            self._next_trial.cancel()
        self.why_down, self.refused, self._missing = reason, False, ""
        self._exchanges.rewind(reason)
        self._appends.rewind()

    def _try_rights(self) -> None:
        link = self._link
        if link is None:
            return
        needs = tuple(self._needs)
        if not needs:
            self._is_ready = True
            return
        trials = [each.trial(self._key_prefix, self._calls) for each in needs]
        names = [name for _, some in trials for name in some]
        what = " and ".join(each.what for each in needs)

        def tried(replies: list[Any]) -> None:
            if needs == tuple(self._needs):  # else there is a later trial of more
                self._rights_tried(rights.missing(self._prefix, names, replies, what), replies)

        self._exchanges.written(Exchange(len(names), tried), self._loop.time())
        if self._alarm is None:
            self._set_alarm()
        link.write(b"".join(commands for commands, _ in trials))

    def _rights_tried(self, missing: str, replies: list[Any]) -> None:
        if any(code_of(str(reply)) == "READONLY" for reply in replies):
            self.leave()
            return
        self._is_ready, self.refused = not missing, bool(missing)
        self._missing = self.why_down = missing
        if missing:
            self._appends.fail_all(missing)
            self._exchanges.fail_all(missing)
            self._next_trial = self._loop.call_later(FORBIDDEN_DELAY, self._try_rights)
        self._flush()
        self._log_rights()

    def _log_rights(self) -> None:
        """Log once that rights are missing, and once that they are there."""
        if bool(self._missing) is self._logged_missing:
            return
        self._logged_missing = not self._logged_missing
        rooms = " or ".join(each.rooms for each in self._needs)
        if self._missing:
            logger.error("Rooms with %s cannot be used: %s", rooms, self._missing)
        else:
            logger.warning("Redis allows rooms with %s again", rooms)

    # What takes too long.

    def _set_alarm(self) -> None:
        """Look again when something may be overdue, as long as anything is unanswered."""
        self._alarm = None
        if self._appends or self._exchanges:
            self._alarm = self._loop.call_later(self._alarm_delay(), self._expire)

    def _alarm_delay(self) -> float:
        now = self._loop.time()
        since = self._exchanges.unanswered_since
        due = (
            self._appends.first_deadline,
            self._exchanges.first_deadline,
            None if since is None else since + self._patience,
            now + min(self._timeout, self._patience),
        )
        return max(min(time for time in due if time is not None) - now, MIN_ALARM_DELAY)

    def _expire(self) -> None:
        now = self._loop.time()
        reason = f"Redis did not answer in {self._timeout} s ({self._state()})."
        overdue = self._appends.expire(now)
        overdue |= self._exchanges.expire(now, reason)
        since = self._exchanges.unanswered_since
        if overdue or (since is not None and since + self._patience <= now):
            self.abort(f"no answer comes to what history needs for {now - (since or now):.1f} s")
        self._set_alarm()

    def _state(self) -> str:
        if self._link is not None:
            return "connected, but no answer comes"
        return self.why_down or "not connected yet"

    # Its end.

    async def close(self) -> None:
        """Close the link, and fail the callers that still wait."""
        self._is_closed = True
        supervision, self._supervision = self._supervision, None
        if supervision is not None:
            supervision.cancel()
            await asyncio.gather(supervision, return_exceptions=True)
        self._link, self._is_ready = None, False
        for timer in (self._alarm, self._next_trial):
            if timer is not None:
                timer.cancel()
        self._appends.fail_all(CLOSED)
        self._exchanges.fail_all(CLOSED)
