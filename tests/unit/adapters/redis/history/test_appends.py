"""Messages on their way into the history: batches, order, deadlines and bytes."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import MIN_CANCELLED, ByteBudget
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.history.appends import (
    MAX_BYTES,
    MAX_MESSAGES,
    Append,
    Appends,
)
from fastapi_rooms.adapters.redis.history.script import Message, Outcome
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position

ROOM = RoomKey(b"/#tea", b"rooms#/#tea#")
HOUR = 3600.0
AT = Position("0" * 16, 1, 1)


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(1000 * ENTRY_BYTES)


@pytest.fixture
async def appends(budget: ByteBudget) -> Appends:
    return Appends(budget, timeout=HOUR, why_waiting=lambda: "it rains")


def add(appends: Appends, *messages: bytes) -> list[Append]:
    return [appends.add(Message(ROOM, 1, Retention(5, 60.0), data)) for data in messages]


def write(appends: Appends) -> list[bytes]:
    batch = appends.next_batch()
    return [] if batch is None else [message.data for message in batch.messages]


def error_of(append: Append) -> AdapterUnavailable:
    error = append.exception()
    assert isinstance(error, AdapterUnavailable)
    return error


async def test_what_comes_while_a_batch_is_under_way_is_the_next(
    appends: Appends, budget: ByteBudget
) -> None:
    first = add(appends, b"1", b"2")
    assert write(appends) == [b"1", b"2"]
    add(appends, b"3")
    assert write(appends) == []
    appends.answered([Outcome(AT), Outcome(AT._replace(offset=2))])
    assert [append.result().offset for append in first] == [1, 2]
    assert write(appends) == [b"3"]
    appends.answered([Outcome(AT)])
    assert not appends
    assert budget.used == 0


async def test_a_batch_is_bounded_and_a_longer_message_is_one_by_itself(budget: ByteBudget) -> None:
    budget.limit = 100 * MAX_BYTES
    appends = Appends(budget, timeout=HOUR, why_waiting=str)
    add(appends, *[b""] * MAX_MESSAGES, b"one more", bytes(MAX_BYTES), b"after", bytes(MAX_BYTES))
    sizes = []
    while batch := appends.next_batch():
        sizes.append(len(batch.messages))
        appends.answered([Outcome(AT)] * len(batch.messages))
    assert sizes == [MAX_MESSAGES, 1, 1, 1, 1]


async def test_a_batch_that_may_have_been_done_goes_again_first_and_marked(
    appends: Appends, budget: ByteBudget
) -> None:
    _, cancelled, _ = add(appends, b"1", b"2", b"3")
    assert write(appends) == [b"1", b"2", b"3"]
    add(appends, b"4")
    cancelled.cancel()
    used = budget.used
    appends.rewind()
    assert budget.used == used - ENTRY_BYTES - 1
    appends.rewind()  # a connection that could do nothing has come and gone
    batch = appends.next_batch()
    assert batch is not None
    assert [message.data for message in batch.messages] == [b"1", b"3"]
    assert batch.again
    appends.answered([Outcome(AT), Outcome(AT)])
    batch = appends.next_batch()
    assert batch is not None
    assert not batch.again


async def test_a_batch_that_redis_has_not_touched_goes_again_unmarked(appends: Appends) -> None:
    add(appends, b"1")
    write(appends)
    add(appends, b"2")
    appends.not_done(by_eval=True)
    batch = appends.next_batch()
    assert batch is not None
    assert [message.data for message in batch.messages] == [b"1"]
    assert batch.is_by_eval
    assert not batch.again


async def test_a_refusal_is_certain_unless_it_was_sent_or_may_have_been_before(
    appends: Appends,
) -> None:
    refused, sent = add(appends, b"1", b"2")
    write(appends)
    appends.answered([Outcome(None, "OOM no"), Outcome(None, "ERR no", is_sent=True)])
    assert [error_of(append).uncertain for append in (refused, sent)] == [False, True]
    (again,) = add(appends, b"3")
    write(appends)
    appends.rewind()
    write(appends)
    appends.answered([Outcome(None, "OOM no")])
    assert error_of(again).uncertain
    assert appends.dropped == 3


async def test_what_is_overdue_is_uncertain_where_it_was_written(
    appends: Appends, budget: ByteBudget
) -> None:
    now = asyncio.get_running_loop().time() + 2 * HOUR
    (again,) = add(appends, b"1")
    write(appends)
    appends.rewind()
    (waiting,) = add(appends, b"2")
    assert not appends.expire(now), "none is under way"
    assert [error_of(append).uncertain for append in (again, waiting)] == [True, False]
    assert budget.used == 0
    (written,) = add(appends, b"3")
    assert write(appends) == [b"3"]
    assert appends.expire(now)
    assert "it rains" in str(error_of(written))
    assert error_of(written).uncertain
    assert appends.first_deadline is None
    appends.rewind()
    assert not appends
    assert budget.used == 0


async def test_what_is_cancelled_before_it_is_written_is_not(
    appends: Appends, budget: ByteBudget
) -> None:
    first, *others = add(appends, *[b"x"] * (2 * MIN_CANCELLED))
    for append in others:
        append.cancel()
    assert budget.used == ENTRY_BYTES + 1
    add(appends, b"last")
    assert write(appends) == [b"x", b"last"]
    first.cancel()
    appends.answered([Outcome(AT), Outcome(AT)])
    assert budget.used == 0
    for append in add(appends, b"1", b"2"):
        append.cancel()
    assert write(appends) == []
    assert budget.used == 0


async def test_without_room_a_message_fails_at_once(appends: Appends, budget: ByteBudget) -> None:
    budget.used = budget.limit
    (refused,) = add(appends, b"1")
    assert "bytes already" in str(error_of(refused))
    assert not error_of(refused).uncertain
    assert not appends
    budget.used = 0
    (longer,) = add(appends, bytes(2 * budget.limit))
    assert not longer.done(), "one may always wait"


async def test_everything_can_be_failed_at_once(appends: Appends, budget: ByteBudget) -> None:
    (written,) = add(appends, b"1")
    write(appends)
    waiting, cancelled = add(appends, b"2", b"3")
    cancelled.cancel()
    appends.fail_all("closed")
    assert [error_of(append).uncertain for append in (written, waiting)] == [True, False]
    assert budget.used == 0
    assert not appends


async def test_what_is_cancelled_and_overdue_gives_its_room_back_once(
    appends: Appends, budget: ByteBudget
) -> None:
    cancelled, waiting = add(appends, b"1", b"2")
    cancelled.cancel()
    assert not appends.expire(3 * HOUR + asyncio.get_running_loop().time())
    assert "it rains" in str(error_of(waiting))
    assert not cancelled.fail("once more", uncertain=False)
    assert not waiting.fail("once more", uncertain=False)
    assert (budget.used, appends.dropped) == (0, 1)
    add(appends, b"3")
    assert write(appends) == [b"3"]
