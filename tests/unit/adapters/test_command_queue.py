"""What is published while a connection comes and goes: order, deadlines and bytes."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import ByteBudget, CommandQueue
from fastapi_rooms.testing import eventually

HOUR = 3600.0


def queue_of(
    budget: ByteBudget, timeout: float = HOUR, overdue: list[str] | None = None
) -> CommandQueue:
    return CommandQueue(
        lambda channel, data: channel + data,
        budget,
        timeout=timeout,
        carrier="Pigeons",
        why_waiting=lambda: "it rains",
        on_overdue=lambda: None if overdue is None else overdue.append("overdue"),
    )


@pytest.fixture
def budget() -> ByteBudget:
    return ByteBudget(100)


async def test_what_is_unanswered_when_the_connection_is_lost_is_written_again_first(
    budget: ByteBudget,
) -> None:
    queue = queue_of(budget)
    first, second = queue.publish(b"a", b"1"), queue.publish(b"a", b"2")
    assert queue.next_batch() == b"a1a2"
    third = queue.publish(b"a", b"3")
    answered = queue.answered()
    assert answered is not None
    assert answered.accepted is first
    second.cancel()  # its caller does not wait any more
    queue.rewind()
    assert queue.next_batch() == b"a3"
    queue.rewind()
    assert queue.next_batch() == b"a3"
    assert [c.accepted for c in queue.take_all()] == [third]
    assert queue.answered() is None
    assert budget.used == 0


async def test_commands_keep_their_order_when_they_move_to_another_queue(
    budget: ByteBudget,
) -> None:
    one, two = queue_of(budget), queue_of(budget)
    for number in range(6):
        _ = (one, two)[number % 2].publish(b"", b"%d" % number, number)
    assert budget.used == 6
    one.put(two.take_unsent(lambda command: command.shard != 3))
    assert (one.next_batch(), two.next_batch()) == (b"01245", b"3")
    assert one.shards_in_flight == {0, 1, 2, 4, 5}
    assert budget.used == 6
    for queue in (one, two):
        queue.close()
    assert budget.used == 0


async def test_what_waits_too_long_fails_written_or_not(budget: ByteBudget) -> None:
    overdue: list[str] = []
    queue = queue_of(budget, 0.05, overdue)
    written = queue.publish(b"a", b"1")
    query = queue.query(b"?")
    queue.next_batch()
    waiting = queue.publish(b"a", b"2")
    for future in (written, query, waiting):
        with pytest.raises(
            AdapterUnavailable, match=r"Pigeons did not accept it in 0.05 s \(it rains\)"
        ):
            await future
    assert overdue
    assert queue.dropped == 2, "a query is no message"
    await eventually(lambda: budget.used == 3, what="what was written can still be answered")
    assert queue.answered() is not None
    assert queue.answered() is not None
    assert queue.answered() is None
    assert budget.used == 0


async def test_what_exceeds_the_budget_is_refused_but_not_the_first_message() -> None:
    budget = ByteBudget(3)
    queue, other = queue_of(budget), queue_of(budget)
    large = queue.publish(b"", b"12345")
    with pytest.raises(AdapterUnavailable, match=r"5 bytes wait .* of 3 allowed \(it rains\)"):
        await other.publish(b"", b"x")
    other.publish_volatile(b"", b"x")
    assert other.dropped == 2
    assert other.next_batch() == b""
    queue.close()
    with pytest.raises(AdapterUnavailable, match="closed"):
        await large
    other.publish_volatile(b"", b"x")
    assert other.next_batch() == b"x"
    await asyncio.sleep(0)
    other.close()
    assert budget.used == 0
