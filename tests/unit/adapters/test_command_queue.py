"""What is published while a connection comes and goes: order, deadlines and bytes."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.command_queue import MIN_CANCELLED, ByteBudget, CommandQueue
from fastapi_rooms.core.costs import ENTRY_BYTES
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
    return ByteBudget(100 * ENTRY_BYTES)


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
    assert budget.used == 6 * (1 + ENTRY_BYTES)
    one.put(two.take_unsent(lambda command: command.shard != 3))
    assert (one.next_batch(), two.next_batch()) == (b"01245", b"3")
    assert one.shards_in_flight == {0, 1, 2, 4, 5}
    assert budget.used == 6 * (1 + ENTRY_BYTES)
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
    await eventually(
        lambda: budget.used == 3 + 2 * ENTRY_BYTES, what="what was written can still be answered"
    )
    assert queue.answered() is not None
    assert queue.answered() is not None
    assert queue.answered() is None
    assert budget.used == 0


async def test_what_exceeds_the_budget_is_refused_but_not_the_first_message() -> None:
    budget = ByteBudget(3 + ENTRY_BYTES)
    queue, other = queue_of(budget), queue_of(budget)
    large = queue.publish(b"", b"12345")
    with pytest.raises(
        AdapterUnavailable,
        match=rf"{5 + ENTRY_BYTES} bytes already, of {3 + ENTRY_BYTES} allowed.*it rains",
    ):
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


async def test_messages_of_no_bytes_fill_the_budget_too(budget: ByteBudget) -> None:
    queue = queue_of(budget)
    accepted = [queue.publish(b"", b"") for _ in range(101)]
    assert [future.done() for future in accepted] == [False] * 100 + [True]
    with pytest.raises(AdapterUnavailable, match=f"each message counts .* {ENTRY_BYTES} bytes"):
        await accepted[-1]
    queue.close()
    await asyncio.wait(accepted)
    assert budget.used == 0


async def test_what_is_cancelled_before_it_was_written_is_never_written(
    budget: ByteBudget,
) -> None:
    queue = queue_of(budget)
    first, second, third = (queue.publish(b"a", b"%d" % number) for number in (1, 2, 3))
    second.cancel()
    assert budget.used == 2 * (2 + ENTRY_BYTES)
    assert queue.next_batch() == b"a1a3"
    first.cancel()
    assert budget.used == 2 * (2 + ENTRY_BYTES), "what was written cannot be taken back"
    answered = [queue.answered() for _ in range(3)]
    assert [command and command.accepted for command in answered] == [first, third, None]
    assert budget.used == 0


async def test_what_waits_for_a_new_connection_can_be_cancelled_as_well(
    budget: ByteBudget,
) -> None:
    queue, other = queue_of(budget), queue_of(budget)
    first, second, _ = (queue.publish(b"a", b"%d" % number, number) for number in (1, 2, 3))
    queue.next_batch()
    queue.rewind()
    first.cancel()
    assert budget.used == 2 * (2 + ENTRY_BYTES)
    other.put(queue.take_unsent(lambda command: command.shard == 2))
    second.cancel()
    assert (other.next_batch(), queue.next_batch()) == (b"", b"a3")
    assert budget.used == 2 + ENTRY_BYTES
    queue.close()
    other.close()
    assert budget.used == 0


async def test_a_task_that_is_cancelled_takes_its_message_back(budget: ByteBudget) -> None:
    queue = queue_of(budget)

    async def publish() -> None:
        await queue.publish(b"a", b"1")

    publishing = asyncio.ensure_future(publish())
    await asyncio.sleep(0)
    assert budget.used
    publishing.cancel()
    await asyncio.wait([publishing])
    assert budget.used == 0
    assert queue.next_batch() == b""


async def test_what_has_failed_is_not_taken_back_twice(budget: ByteBudget) -> None:
    queue = queue_of(budget, 0.01)
    late = queue.publish(b"a", b"1")
    with pytest.raises(AdapterUnavailable):
        await late
    assert not late.cancel()
    assert budget.used == 0


@pytest.mark.parametrize("reverse", [False, True])
async def test_of_thousands_that_are_cancelled_next_to_nothing_stays(reverse: bool) -> None:
    budget = ByteBudget(1 << 30)
    queue = queue_of(budget)
    kept = queue.publish(b"a", b"1")
    accepted = [queue.publish(b"a", b"2") for _ in range(10_000)]
    for future in reversed(accepted) if reverse else accepted:
        future.cancel()
    assert len(queue._waiting) <= 1 + MIN_CANCELLED
    assert budget.used == 2 + ENTRY_BYTES
    assert queue.next_batch() == b"a1"
    queue.close()
    assert isinstance(kept.exception(), AdapterUnavailable)


async def test_what_is_to_be_written_once_fails_when_the_connection_is_lost(
    budget: ByteBudget,
) -> None:
    queue = queue_of(budget)
    written, again = queue.publish(b"a", b"1", once=True), queue.publish(b"a", b"2")
    assert queue.next_batch() == b"a1a2"
    waiting = queue.publish(b"a", b"3", once=True)
    queue.rewind()
    with pytest.raises(AdapterUnavailable, match="may have been sent"):
        await written
    assert queue.dropped == 1
    assert queue.next_batch() == b"a2a3"
    assert not again.done()
    queue.rewind()
    with pytest.raises(AdapterUnavailable):
        await waiting
    assert [command.accepted for command in queue.take_all()] == [again]
    assert budget.used == 0
