"""What is written, and the replies that belong to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.redis.history.exchanges import (
    MAX_ATTEMPTS,
    Exchange,
    Exchanges,
    Question,
)


def ask(exchanges: Exchanges, name: bytes, count: int = 1) -> asyncio.Future[list[Any]]:
    answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
    exchanges.ask(Question(lambda: name, count, answer, deadline=10.0))
    return answer


async def test_replies_are_matched_by_position() -> None:
    exchanges, got = Exchanges(), list[list[Any]]()
    exchanges.written(Exchange(2, got.append), 1.0)
    answer = ask(exchanges, b"question", 2)
    assert exchanges.write_questions(2.0) == [b"question"]
    assert exchanges.unanswered_since == 1.0
    for reply in (1, 2, 3):
        exchanges.received(reply)
    assert got == [[1, 2]]
    assert exchanges.unanswered_since == 2.0
    assert not answer.done()
    exchanges.received(4)
    assert answer.result() == [3, 4]
    exchanges.received(5)  # answers nothing
    assert not exchanges


async def test_a_question_half_answered_when_the_link_is_lost_is_asked_again_first() -> None:
    exchanges = Exchanges()
    answer, cancelled = ask(exchanges, b"a", 2), ask(exchanges, b"b")
    exchanges.write_questions(1.0)
    exchanges.received("half")
    later = ask(exchanges, b"c")
    cancelled.cancel()
    exchanges.rewind("cut")
    assert exchanges.write_questions(2.0) == [b"a", b"c"]
    exchanges.received(1)
    exchanges.received(2)
    exchanges.received(3)
    assert [answer.result(), later.result()] == [[1, 2], [3]]


async def test_a_question_that_breaks_every_link_is_given_up() -> None:
    exchanges = Exchanges()
    answer = ask(exchanges, b"too much")
    for _ in range(MAX_ATTEMPTS):
        assert exchanges.write_questions(1.0) == [b"too much"]
        exchanges.rewind("a reply is too long")
    with pytest.raises(AdapterUnavailable, match=r"3 attempts .*too long"):
        await answer
    assert not exchanges


async def test_what_is_overdue_fails_and_tells_whether_it_was_written() -> None:
    exchanges = Exchanges()
    waiting = ask(exchanges, b"waiting")
    deadlines = [exchanges.first_deadline]
    assert not exchanges.expire(10.0, "late")
    written = ask(exchanges, b"written")
    exchanges.write_questions(1.0)
    deadlines.append(exchanges.first_deadline)
    assert exchanges.expire(10.0, "late")
    deadlines.append(exchanges.first_deadline)
    assert deadlines == [10.0, 10.0, None]
    for answer in (waiting, written):
        with pytest.raises(AdapterUnavailable, match="late"):
            await answer
    exchanges.received(1)  # its answer comes all the same
    assert not exchanges
