"""When each client of a leaving worker is closed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.drain_schedule import CLOSES_PER_SECOND, IMMEDIATE_MAX, DrainSchedule
from fastapi_rooms.errors import ConfigurationError

counts = st.integers(0, 400)
windows = st.floats(0, 3600)
jitters = st.randoms(use_true_random=False)


@pytest.mark.parametrize("window", [-1, float("inf"), float("nan")])
def test_a_window_that_cannot_be_is_refused(window: float) -> None:
    with pytest.raises(ConfigurationError, match="drain_window"):
        DrainSchedule(window, 3)


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="drain_timeout"):
        DrainSchedule(5, timeout)


@given(counts, windows, jitters)
def test_everyone_is_closed_within_the_window_and_in_order(
    count: int, window: float, jitter: Random
) -> None:
    delays = list(DrainSchedule(window, 3).delays(count, jitter.random))
    assert len(delays) == count
    assert all(0 <= delay <= window for delay in delays)
    assert delays == sorted(delays)


@given(counts, windows, jitters)
def test_no_equal_stretches_of_the_window_differ_by_more_than_one_client(
    count: int, window: float, jitter: Random
) -> None:
    delays = list(DrainSchedule(window, 3).delays(count, jitter.random))
    span = min(window, max(0, count - IMMEDIATE_MAX) / CLOSES_PER_SECOND)
    for number, delay in enumerate(delays):
        assert span * (number / count) <= delay <= span * ((number + 1) / count)


@given(st.integers(0, IMMEDIATE_MAX), windows, jitters)
def test_a_few_are_closed_at_once(count: int, window: float, jitter: Random) -> None:
    delays = list(DrainSchedule(window, 3).delays(count, jitter.random))
    assert delays == [0] * count


@pytest.mark.parametrize(("count", "span"), [(20, 0.1), (210, 2), (1000, 5), (100_000, 5)])
def test_the_more_there_are_the_longer_it_takes_up_to_the_window(count: int, span: float) -> None:
    *_, last = DrainSchedule(5, 3).delays(count, lambda: 1 - 1e-9)
    assert last == pytest.approx(span)


def test_a_window_of_nothing_closes_everyone_at_once() -> None:
    assert list(DrainSchedule(0, 3).delays(1000, lambda: 0.5)) == [0] * 1000


def test_a_server_that_waits_for_ever_shortens_nothing() -> None:
    assert DrainSchedule(5, 3).within(None) == DrainSchedule(5, 3)


@pytest.mark.parametrize(
    ("seconds", "window", "timeout"), [(60, 5, 3), (10, 5, 3), (4, 2, 1.2), (1, 0.5, 0.3)]
)
def test_a_server_that_waits_for_so_long_only_gets_what_it_can_wait_for(
    seconds: float, window: float, timeout: float
) -> None:
    within = DrainSchedule(5, 3).within(seconds)
    assert (within.window, within.timeout) == pytest.approx((window, timeout))


@given(st.one_of(st.integers(0, 600), st.floats(0, 600)), windows, st.floats(0.001, 600))
def test_the_last_client_is_gone_before_the_server_loses_patience(
    seconds: float, window: float, timeout: float
) -> None:
    within = DrainSchedule(window, timeout).within(seconds)
    assert within.window + within.timeout < max(seconds, 0.001)
    assert within.window <= window
    assert within.timeout <= timeout
