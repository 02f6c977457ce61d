"""Outboxes: a bound in bytes, and what happens past it.

Each item is as many entries' cost "long" as its name: so that the bounds below read as numbers.
"""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.outbox import MIN_DISCARDED, Entry, Outbox, OutboxPolicy, Verdict
from fastapi_rooms.errors import ConfigurationError

QUEUED, DROPPED, OVERFLOW = Verdict.QUEUED, Verdict.DROPPED, Verdict.OVERFLOW

UNIT = ENTRY_BYTES


def _drain(outbox: Outbox[str, str]) -> list[str]:
    return [outbox.pop()[0] for _ in range(len(outbox))]


def _offer(outbox: Outbox[str, str], item: str, *, buffered: int = 0) -> Verdict:
    """Offer an item that counts as many units as its name is long."""
    return outbox.offer(item, (len(item) - 1) * UNIT, buffered=buffered * UNIT)


def _push(outbox: Outbox[str, str], item: str) -> Entry[str, str]:
    return outbox.push(item, (len(item) - 1) * UNIT, f"who waits for {item}")


def _filled(overflow: Any, *items: str, limit: int = 4) -> Outbox[str, str]:
    outbox: Outbox[str, str] = Outbox(OutboxPolicy(limit * UNIT, overflow))
    for item in items:
        assert _offer(outbox, item) is QUEUED
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
    assert outbox.size == 4 * UNIT
    assert _drain(outbox) == ["a", "bb", "c"]
    assert outbox.size == 0


def test_taking_from_an_empty_outbox_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        _filled("close").pop()


def test_exactly_the_limit_may_wait() -> None:
    outbox = _filled("close", "aaa", "b")
    assert outbox.size == 4 * UNIT
    assert _offer(outbox, "c") is OVERFLOW


@pytest.mark.parametrize("overflow", ["close", "drop_oldest", "drop_newest"])
def test_one_item_may_always_wait_whatever_its_size(overflow: str) -> None:
    assert _drain(_filled(overflow, "a" * 100)) == ["a" * 100]


def test_close_gives_the_reader_up_and_leaves_the_queue_as_it_was() -> None:
    outbox = _filled("close", "aa", "bb")
    assert _offer(outbox, "c") is OVERFLOW
    assert outbox.dropped == 0
    assert _drain(outbox) == ["aa", "bb"]


def test_drop_newest_refuses_what_does_not_fit() -> None:
    outbox = _filled("drop_newest", "aa", "b")
    assert _offer(outbox, "cc") is DROPPED
    assert _offer(outbox, "d") is QUEUED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["aa", "b", "d"]


def test_drop_oldest_makes_room_by_dropping_no_more_than_it_must() -> None:
    outbox = _filled("drop_oldest", "a", "b", "c", "d")
    assert _offer(outbox, "ee") is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["c", "d", "ee"]


def test_drop_oldest_drops_everything_for_an_item_over_the_limit() -> None:
    outbox = _filled("drop_oldest", "a", "b")
    assert _offer(outbox, "c" * 9) is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["c" * 9]


def test_an_item_somebody_waits_for_is_queued_past_the_limit() -> None:
    outbox = _filled("close", "aaaa")
    _push(outbox, "bb")
    assert outbox.size == 6 * UNIT
    assert _drain(outbox) == ["aaaa", "bb"]


def test_drop_oldest_never_drops_an_item_somebody_waits_for() -> None:
    outbox = _filled("drop_oldest", "a")
    _push(outbox, "P")
    assert _offer(outbox, "b") is QUEUED
    _push(outbox, "Q")
    assert _offer(outbox, "cc") is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["P", "Q", "cc"]


def test_drop_oldest_refuses_what_only_waited_for_items_leave_no_room_for() -> None:
    outbox = _filled("drop_oldest")
    _push(outbox, "PPPP")
    assert _offer(outbox, "a") is DROPPED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["PPPP"]


def test_drop_oldest_drops_nothing_for_an_item_that_would_not_fit_even_so() -> None:
    outbox = _filled("drop_oldest", "a")
    _push(outbox, "PPP")
    assert _offer(outbox, "bb") is DROPPED
    assert outbox.dropped == 1
    assert _drain(outbox) == ["a", "PPP"]
    _push(outbox, "PPP")
    outbox.clear()
    assert _offer(outbox, "c" * 9) is QUEUED, "nobody waits any more"


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
    assert _offer(outbox, "c", buffered=buffered) is verdict
    assert _drain(outbox) == left


def test_one_item_may_wait_however_much_the_transport_holds() -> None:
    outbox = _filled("close")
    assert _offer(outbox, "a", buffered=99) is QUEUED
    assert _offer(outbox, "b", buffered=99) is OVERFLOW


def test_clear_returns_what_waited_oldest_first() -> None:
    outbox = _filled("close", "a", "b")
    _push(outbox, "P")
    assert outbox.clear() == [("a", None), ("b", None), ("P", "who waits for P")]
    assert (len(outbox), outbox.size) == (0, 0)
    assert _offer(outbox, "aaaa") is QUEUED


# What an item costs.


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("overflow", ["close", "drop_newest"])
def test_messages_of_next_to_no_bytes_are_bounded_too(overflow: Any, size: int) -> None:
    outbox: Outbox[int, None] = Outbox(OutboxPolicy(1024 * 1024, overflow))
    verdicts = [outbox.offer(number, size) for number in range(5000)]
    assert len(outbox) == verdicts.count(QUEUED) == 1024 * 1024 // (ENTRY_BYTES + size)
    assert outbox.size <= 1024 * 1024


def test_an_awaited_message_of_no_bytes_costs_as_much() -> None:
    outbox = _filled("drop_oldest", limit=2)
    for _ in range(2):
        outbox.push("", 0, "who waits")
    assert outbox.size == 2 * ENTRY_BYTES
    assert outbox.offer("", 0) is DROPPED


# What is taken back.


def test_what_is_taken_back_frees_its_bytes_and_never_leaves() -> None:
    outbox = _filled("close", "a")
    entry = _push(outbox, "PPPP")
    assert _offer(outbox, "b") is OVERFLOW
    assert outbox.discard(entry)
    assert (len(outbox), outbox.size) == (1, UNIT)
    assert entry.item is entry.waiter is None
    assert _offer(outbox, "b") is QUEUED
    assert outbox.dropped == 0
    assert _drain(outbox) == ["a", "b"]


def test_what_has_left_or_was_taken_back_cannot_be_taken_back() -> None:
    outbox = _filled("close", "a")
    first, second = _push(outbox, "P"), _push(outbox, "Q")
    assert [outbox.pop()[0] for _ in range(2)] == ["a", "P"]
    assert not outbox.discard(first)
    assert outbox.discard(second)
    assert not outbox.discard(second)
    assert not outbox
    with pytest.raises(IndexError):
        outbox.pop()
    cleared = _push(outbox, "R")
    outbox.clear()
    assert not outbox.discard(cleared)
    assert (len(outbox), outbox.size) == (0, 0)


def test_an_outbox_whose_items_were_all_taken_back_takes_a_message_of_any_size() -> None:
    outbox = _filled("close")
    outbox.discard(_push(outbox, "PP"))
    assert _offer(outbox, "a" * 9) is QUEUED


def test_drop_oldest_passes_over_what_was_taken_back() -> None:
    outbox = _filled("drop_oldest", "a")
    entry = _push(outbox, "P")
    assert [_offer(outbox, item) for item in ("b", "c")] == [QUEUED] * 2
    outbox.discard(entry)
    assert _offer(outbox, "ddd") is QUEUED
    assert outbox.dropped == 2
    assert _drain(outbox) == ["c", "ddd"]


@pytest.mark.parametrize("reverse", [False, True])
def test_of_thousands_that_are_taken_back_next_to_nothing_stays(reverse: bool) -> None:
    outbox = _filled("close", "a")
    entries = [_push(outbox, "P") for _ in range(10_000)]
    assert _offer(outbox, "b") is OVERFLOW
    for entry in reversed(entries) if reverse else entries:
        outbox.discard(entry)
        assert len(outbox._entries) <= max(2 * len(outbox), len(outbox) + MIN_DISCARDED)
    assert (len(outbox), outbox.size) == (1, UNIT)
    assert _drain(outbox) == ["a"]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_messages_that_are_one_item_are_dropped_together_and_each_counted(overflow: Any) -> None:
    outbox: Outbox[str, str] = Outbox(OutboxPolicy(2 * UNIT, overflow))
    outbox.offer("ten messages", 0, messages=10)
    outbox.offer("one", 0)
    verdict = outbox.offer("five", 0, messages=5)
    if overflow == "drop_oldest":
        assert (verdict, outbox.dropped, _drain(outbox)) == (QUEUED, 10, ["one", "five"])
    else:
        assert (verdict, outbox.dropped) == (DROPPED, 5)
        assert _drain(outbox) == ["ten messages", "one"]


def test_there_is_room_for_what_would_be_queued_and_nothing_dropped_for() -> None:
    outbox = _filled("drop_oldest", "aa")
    assert outbox.has_room(UNIT)
    assert not outbox.has_room(UNIT + 1)
    assert not outbox.has_room(UNIT, buffered=1)
