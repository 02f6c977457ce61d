"""How much may wait: bytes and seconds, shared among flows."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.backlog import MAX_BYTES, VOLATILE_SHARE, Backlog


def _fill(backlog: Backlog, flow: str, cost: float) -> int:
    """Send to one flow until it is refused; how many were admitted."""
    admitted = 0
    while backlog.admits(flow, cost, volatile=False):
        backlog.add(flow, cost)
        admitted += 1
    return admitted


def test_nothing_waits_at_first() -> None:
    backlog = Backlog(max_lag=1)
    assert backlog.total == 0
    assert not backlog.is_full


@pytest.mark.parametrize("cost", [0.001, 1.0, 100.0])
def test_any_message_may_wait_if_nothing_waits(cost: float) -> None:
    assert Backlog(max_lag=1).admits("a", cost, volatile=False)


def test_all_the_bytes_are_the_whole_limit() -> None:
    assert Backlog(max_lag=1).cost(MAX_BYTES, 0) == 1


@pytest.mark.parametrize("max_lag", [0.1, 2.0])
def test_the_seconds_that_writing_takes_are_the_whole_limit(max_lag: float) -> None:
    backlog = Backlog(max_lag)
    for _ in range(1000):
        backlog.measured(20_000, 1.0)  # writes in a second
    assert backlog.cost(0, 20_000 * max_lag) == pytest.approx(1)


def test_a_machine_that_was_suspended_is_not_taken_for_that_slow() -> None:
    backlog = Backlog(max_lag=1)
    before = backlog.cost(0, 1)
    for _ in range(1000):
        backlog.measured(1000, 3600)
    assert backlog.cost(0, 1) <= 16 * before


def test_writes_that_took_no_time_that_can_be_measured_are_not_taken_for_free() -> None:
    backlog = Backlog(max_lag=1)
    before = backlog.cost(0, 1)
    for _ in range(1000):
        backlog.measured(1000, 0)
    assert backlog.cost(0, 1) >= before / 4


def test_one_flow_may_take_half_of_the_limit() -> None:
    backlog = Backlog(max_lag=1)
    assert _fill(backlog, "flood", 0.01) in (50, 51)  # the sums of fractions are not exact
    assert backlog.admits("quiet", 0.25, volatile=False)


@pytest.mark.parametrize("flows", [2, 5, 20])
def test_however_many_flood_something_is_left_for_the_quiet(flows: int) -> None:
    backlog = Backlog(max_lag=1)
    for _ in range(600):
        for flow in range(flows):
            if backlog.admits(flow, 0.001, volatile=False):
                backlog.add(flow, 0.001)
    assert 1 - backlog.total == pytest.approx(1 / (flows + 1), abs=0.01)
    assert backlog.admits("quiet", 0.001, volatile=False)
    assert not backlog.is_full


def test_volatile_messages_are_refused_much_earlier() -> None:
    backlog = Backlog(max_lag=1)
    backlog.add("a", VOLATILE_SHARE)
    assert not backlog.admits("b", 0.001, volatile=True)
    assert backlog.admits("b", 0.001, volatile=False)


def test_what_is_sent_here_may_exceed_the_limit_and_then_it_is_full() -> None:
    backlog = Backlog(max_lag=1)
    was_full = [backlog.is_full]
    backlog.add("a", 1.5)
    was_full.append(backlog.is_full)
    backlog.remove("a", 1.5)
    was_full.append(backlog.is_full)
    assert was_full == [False, True, False]
    assert backlog.total == 0


def test_what_has_been_written_makes_room_for_as_much() -> None:
    backlog = Backlog(max_lag=1)
    admitted = _fill(backlog, "flood", 0.01)
    backlog.remove("flood", 0.01 * 10)
    assert _fill(backlog, "flood", 0.01) == 10
    backlog.remove("flood", 0.01 * admitted)
    assert backlog.total == 0, "a sum of fractions leaves nothing behind"
    assert backlog.admits("other", 50.0, volatile=False)
