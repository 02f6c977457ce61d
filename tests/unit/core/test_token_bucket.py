"""The token bucket: never more than a burst at once, never more than the rate in the long run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.token_bucket import TokenBucket

rates = st.floats(0.01, 1000)
bursts = st.floats(1, 1000)
pauses = st.lists(st.floats(-1, 10), max_size=60)


def taken(bucket: TokenBucket, amount: float, now: float) -> bool:
    if not bucket.holds(amount, now):
        return False
    bucket.take(amount)
    return True


def test_it_is_full_when_made_and_gains_by_the_rate_up_to_the_burst() -> None:
    bucket = TokenBucket(rate=2, burst=3, now=100)
    assert [taken(bucket, 1, 100) for _ in range(4)] == [True, True, True, False]
    assert not taken(bucket, 1, 100.25)
    assert taken(bucket, 1, 100.5)
    assert not taken(bucket, 1, 100.5)
    assert [taken(bucket, 1, 1000) for _ in range(4)] == [True, True, True, False]


def test_what_is_not_there_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=5, now=0)
    assert not bucket.holds(5.5, 0)
    assert taken(bucket, 5, 0)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=100)
    assert taken(bucket, 2, 100)
    assert not taken(bucket, 1, 50)
    assert not taken(bucket, 1, 100.5)
    assert taken(bucket, 1, 101)


@given(rates, bursts, pauses)
def test_no_span_of_time_sees_more_than_a_burst_and_what_flowed_in(
    rate: float, burst: float, pauses: list[float]
) -> None:
    bucket, now = TokenBucket(rate, burst, 0), 0.0
    times: list[float] = []
    latest = 0.0
    for pause in pauses:
        now += pause
        latest = max(latest, now)
        if taken(bucket, 1, now):
            times.append(latest)
    for first in range(len(times)):
        for last in range(first, len(times)):
            most = burst + rate * (times[last] - times[first])
            assert last - first + 1 <= most + 1e-6


@given(rates, bursts, st.integers(1, 50))
def test_who_keeps_to_the_rate_always_gets_through(rate: float, burst: float, count: int) -> None:
    bucket = TokenBucket(rate, burst, 0)
    interval = 1.001 / rate
    assert all(taken(bucket, 1, number * interval) for number in range(count))


@pytest.mark.parametrize("amount", [0, 0.0])
def test_nothing_can_always_be_taken(amount: float) -> None:
    bucket = TokenBucket(1, 1, 0)
    assert taken(bucket, 1, 0)
    assert taken(bucket, amount, 0)
