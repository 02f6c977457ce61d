"""Outboxes: a bound in bytes, and what happens past it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.errors import ConfigurationError

QUEUED, DROPPED, OVERFLOW = Verdict.QUEUED, Verdict.DROPPED, Verdict.OVERFLOW


def _drain(outbox: Outbox[str]) -> list[str]:
    return [outbox.pop() for _ in range(len(outbox))]


def _filled(overflow: Any, *items: str, max_bytes: int = 4) -> Outbox[str]:
    """An outbox in which every item is as many bytes long as its name."""
    outbox: Outbox[str] = Outbox(OutboxPolicy(max_bytes, overflow))
    for item in items:
        assert outbox.offer(item, len(item)) is QUEUED
    return outbox


# The policy.


def test_the_default_is_a_mebibyte_and_closing_with_try_again_later() -> None:
    assert OutboxPolicy() == OutboxPolicy(1024 * 1024, "close", 1013)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        *[
            ({"max_bytes": n}, f"max_bytes must be a whole number of bytes above zero, not {n}")
            for n in (0, -1, 0.5, float("nan"), float("inf"), True, None)
        ],
        ({"overflow": "drop"}, "'close', 'drop_oldest' or 'drop_newest', not 'drop'"),
        *[({"close_code": n}, str(n)) for n in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)],
    ],
)
def test_a_policy_that_cannot_be_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        OutboxPolicy(**settings)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1013, 1014, 3000, 4999])
def test_every_code_that_a_server_may_send_can_be_chosen(code: int) -> None:
    assert OutboxPolicy(close_code=code).close_code == code


def test_the_smallest_bound_is_one_byte() -> None:
    assert OutboxPolicy(max_bytes=1).max_bytes == 1


# The queue.


def test_items_leave_in_the_order_they_came() -> None:
    outbox = _filled("close", "a", "bb", "c")
    assert outbox.size == 4
    assert _drain(outbox) == ["a", "bb", "c"]
    assert outbox.size == 0


def test_taking_from_an_empty_outbox_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        _filled("close").pop()


def test_exactly_the_limit_may_wait() -> None:
    outbox = _filled("close", "aaa", "b")
    assert outbox.size == 4
    assert outbox.offer("c", 1) is OVERFLOW


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
def test_one_item_may_always_wait_whatever_its_size(overflow: str) -> None:
    assert _drain(_filled(overflow, "a" * 100)) == ["a" * 100]


def test_close_gives_the_reader_up_and_leaves_the_queue_as_it_was() -> None:
    outbox = _filled("close", "aa", "bb")
    assert outbox.offer("c", 1) is OVERFLOW
    assert outbox.dropped == 0
    assert _drain(outbox) == ["aa", "bb"]


def test_drop_newest_refuses_what_does_not_fit() -> None:
    outbox = _filled("drop_newest", "aa", "b")
    assert outbox.offer("cc", 2) is DROPPED
    assert outbox.offer("d", 1) is QUEUED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["aa", "b", "d"]


def test_drop_oldest_makes_room_by_dropping_no_more_than_it_must() -> None:
    outbox = _filled("drop_oldest", "a", "b", "c", "d")
    assert outbox.offer("ee", 2) is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["c", "d", "ee"]


def test_drop_oldest_drops_everything_for_an_item_over_the_limit() -> None:
    outbox = _filled("drop_oldest", "a", "b")
    assert outbox.offer("c" * 9, 9) is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["c" * 9]


def test_an_item_somebody_waits_for_is_queued_past_the_limit() -> None:
    outbox = _filled("close", "aaaa")
    outbox.push("bb", 2)
    assert outbox.size == 6
    assert _drain(outbox) == ["aaaa", "bb"]


def test_drop_oldest_never_drops_an_item_somebody_waits_for() -> None:
    outbox = _filled("drop_oldest", "a")
    outbox.push("P", 1)
    assert outbox.offer("b", 1) is QUEUED
    outbox.push("Q", 1)
    assert outbox.offer("cc", 2) is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["P", "Q", "cc"]


def test_drop_oldest_refuses_what_only_waited_for_items_leave_no_room_for() -> None:
    outbox = _filled("drop_oldest")
    outbox.push("PPPP", 4)
    assert outbox.offer("a", 1) is DROPPED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["PPPP"]


def test_drop_oldest_drops_nothing_for_an_item_that_would_not_fit_even_so() -> None:
    outbox = _filled("drop_oldest", "a")
    outbox.push("PPP", 3)
    assert outbox.offer("bb", 2) is DROPPED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["a", "PPP"]
    outbox.push("PPP", 3)
    outbox.clear()
    assert outbox.offer("c" * 9, 9) is QUEUED, "nobody waits any more"


@pytest.mark.parametrize(
    ("overflow", "buffered", "verdict", "left"),
    [
        ("close", 1, QUEUED, ["a", "b", "c"]),
        ("close", 2, OVERFLOW, ["a", "b"]),
        ("drop_newest", 1, QUEUED, ["a", "b", "c"]),
        ("drop_newest", 2, DROPPED, ["a", "b"]),
        ("drop_oldest", 1, QUEUED, ["a", "b", "c"]),
        ("drop_oldest", 2, QUEUED, ["b", "c"]),
        ("drop_oldest", 99, QUEUED, ["c"]),
    ],
)
def test_what_the_transport_holds_counts_against_the_limit(
    overflow: str, buffered: int, verdict: Verdict, left: list[str]
) -> None:
    outbox = _filled(overflow, "a", "b")
    assert outbox.offer("c", 1, buffered=buffered) is verdict
    assert _drain(outbox) == left


def test_one_item_may_wait_however_much_the_transport_holds() -> None:
    outbox = _filled("close")
    assert outbox.offer("a", 1, buffered=99) is QUEUED
    assert outbox.offer("b", 1, buffered=99) is OVERFLOW


def test_clear_returns_what_waited_oldest_first() -> None:
    outbox = _filled("close", "a", "b")
    outbox.push("P", 1)
    assert outbox.clear() == ["a", "b", "P"]
    assert (len(outbox), outbox.size) == (0, 0)
    assert outbox.offer("aaaa", 4) is QUEUED


@given(
    st.sampled_from(["close", "drop_oldest", "drop_newest"]),
    st.lists(st.tuples(st.sampled_from(["offer", "push", "pop"]), st.integers(0, 8))),
)
def test_every_item_leaves_in_order_or_is_counted_and_the_bound_holds(
    overflow: Any, steps: list[tuple[str, int]]
) -> None:
    outbox: Outbox[int] = Outbox(OutboxPolicy(10, overflow))
    sizes = [size for _, size in steps]
    taken: list[int] = []
    pushed: list[int] = []
    offered = 0
    for number, (step, size) in enumerate(steps):
        if step == "pop":
            if len(outbox):
                taken.append(outbox.pop())
        elif step == "push":
            outbox.push(number, size)
            pushed.append(number)
        else:
            was_empty = len(outbox) == 0
            dropped = outbox.dropped
            verdict = outbox.offer(number, size)
            offered += verdict is not OVERFLOW
            if verdict is QUEUED:
                assert outbox.size <= 10 or was_empty or len(outbox) == 1
            if verdict is DROPPED:
                assert outbox.dropped == dropped + 1
            assert (verdict is OVERFLOW) <= (overflow == "close")
    waiting = outbox.size
    taken += (rest := outbox.clear())
    assert waiting == sum(sizes[number] for number in rest)
    assert taken == sorted(taken)
    assert set(pushed) <= set(taken)
    assert len(taken) + outbox.dropped == offered + len(pushed)
