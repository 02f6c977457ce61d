"""What is written to a connection, and the replies that belong to it, in order.

An exchange is some commands that are written together, and as many replies. A question is one that
somebody waits for; when the connection breaks before it is answered it is asked again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from fastapi_rooms.errors import AdapterUnavailable

MAX_ATTEMPTS = 3
"""So often a question is written, each time to a new link: its answer may be what breaks them."""


class Exchange:
    """Commands that are written together. `finish` is called with the replies, errors included."""

    __slots__ = ("count", "finish", "replies", "written_at")

    def __init__(self, count: int, finish: Callable[[list[Any]], None]) -> None:
        self.count = count
        self.finish = finish
        self.replies: list[Any] = []
        self.written_at = 0.0


class Answer(Protocol):
    """What is made of the replies to a question: a future, or one part of several."""

    def done(self) -> bool:
        """Whether nobody waits for it any more."""

    def set_result(self, result: list[Any], /) -> None:
        """The replies have come."""

    def set_exception(self, exception: AdapterUnavailable, /) -> None:
        """They do not come."""


class Answers:
    """Those to several questions, of which each is told as it comes, or why it does not.

    Args:
        count: how many questions.
        answered: called with the place of each among them, and its replies or what was raised.
    """

    def __init__(
        self, count: int, answered: Callable[[int, list[Any] | AdapterUnavailable], None]
    ) -> None:
        self.all: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the last has come."""
        self._left = count
        self._answered = answered

    def came(self, at: int, outcome: list[Any] | AdapterUnavailable) -> None:
        """One has come."""
        self._answered(at, outcome)
        self._left -= 1
        if not self._left and not self.all.done():
            self.all.set_result(None)


class OneOf:
    """One of several answers."""

    __slots__ = ("_answers", "_at", "_is_done")

    def __init__(self, answers: Answers, at: int) -> None:
        self._answers = answers
        self._at = at
        self._is_done = False

    def done(self) -> bool:
        """Whether it has come, or who waits for all of them has gone."""
        return self._is_done or self._answers.all.done()

    def set_result(self, result: list[Any], /) -> None:
        """The replies have come."""
        self._is_done = True
        self._answers.came(self._at, result)

    def set_exception(self, exception: AdapterUnavailable, /) -> None:
        """They do not come."""
        self._is_done = True
        self._answers.came(self._at, exception)


class Question(Exchange):
    """An exchange that somebody waits for. `encode` is called whenever it is written."""

    __slots__ = ("answer", "attempts", "deadline", "encode")

    def __init__(
        self,
        encode: Callable[[], bytes],
        count: int,
        answer: Answer,
        deadline: float,
    ) -> None:
        super().__init__(count, self._answered)
        self.encode = encode
        self.answer = answer
        self.deadline = deadline
        self.attempts = 0

    def _answered(self, replies: list[Any]) -> None:
        if not self.answer.done():
            self.answer.set_result(replies)

    def fail(self, reason: str) -> None:
        """Raise `AdapterUnavailable` where it is waited for."""
        if not self.answer.done():
            self.answer.set_exception(AdapterUnavailable(reason))


class Exchanges:
    """Those that are not answered yet, and the questions that are not written yet."""

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()
        self._unanswered: deque[Exchange] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._unanswered)

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest unanswered one was written; `None` if all are answered."""
        return self._unanswered[0].written_at if self._unanswered else None

    @property
    def first_deadline(self) -> float | None:
        """When the first question that is still waited for is overdue."""
        questions = (e for e in (*self._unanswered, *self._waiting) if isinstance(e, Question))
        return next((q.deadline for q in questions if not q.answer.done()), None)

    def ask(self, question: Question) -> None:
        """Add a question, to be written with the next."""
        self._waiting.append(question)

    def written(self, exchange: Exchange, now: float) -> None:
        """An exchange is being written."""
        exchange.written_at = now
        self._unanswered.append(exchange)

    def write_questions(self, now: float) -> list[bytes]:
        """The questions that are to be written now."""
        chunks = []
        while self._waiting:
            question = self._waiting.popleft()
            if question.answer.done():
                continue
            question.attempts += 1
            chunks.append(question.encode())
            self.written(question, now)
        return chunks

    def received(self, reply: Any) -> None:
        """A reply has come: finish the exchange that it completes."""
        if not self._unanswered:
            return
        exchange = self._unanswered[0]
        exchange.replies.append(reply)
        if len(exchange.replies) == exchange.count:
            self._unanswered.popleft()
            exchange.finish(exchange.replies)

    def rewind(self, reason: str) -> None:
        """The connection is lost: ask again what is still waited for."""
        again = []
        for exchange in self._unanswered:
            if not isinstance(exchange, Question) or exchange.answer.done():
                continue
            if exchange.attempts < MAX_ATTEMPTS:
                exchange.replies = []
                again.append(exchange)
            else:
                exchange.fail(f"Redis did not answer in {MAX_ATTEMPTS} attempts ({reason}).")
        self._unanswered.clear()
        self._waiting.extendleft(reversed(again))

    def expire(self, now: float, reason: str) -> bool:
        """Fail the questions that have waited too long; returns whether any was written."""
        written = [e for e in self._unanswered if isinstance(e, Question) and e.deadline <= now]
        for question in written:
            question.fail(reason)
        self._waiting = deque(q for q in self._waiting if not q.answer.done())
        while self._waiting and self._waiting[0].deadline <= now:
            self._waiting.popleft().fail(reason)
        return bool(written)

    def fail_all(self, reason: str) -> None:
        """Fail every question. What was written is answered all the same."""
        for exchange in (*self._unanswered, *self._waiting):
            if isinstance(exchange, Question):
                exchange.fail(reason)
        self._waiting.clear()
