"""Spans of time in which a worker may have published in vain."""

from __future__ import annotations

import pytest

from fastapi_rooms.adapters.redis.pubsub.failover_gaps import (
    MIN_INTERVAL,
    FailoverGaps,
    Span,
    decode,
    encode,
)

NOW = 1_000_000.0


def test_a_span_survives_clocks_that_differ() -> None:
    here = NOW + 3600  # this worker's clock is an hour ahead
    assert decode(encode(Span(NOW - 12.5, NOW - 0.25), NOW), here) == (here - 12.5, here - 0.25)


def test_a_clock_that_was_set_makes_a_span_that_is_read_all_the_same() -> None:
    for span in (Span(NOW + 9, NOW + 5), Span(NOW - 1e9, NOW - 1), Span(NOW - 1, NOW - 5)):
        since, until = decode(encode(span, NOW), NOW)
        assert since <= until <= NOW


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1",
        b"1 2",
        b"2 -1",
        b"nan 1",
        b"2 nan",
        b"inf 1",
        b"1e9 1",
        b"2 1 0",
        b"two one",
        b"2  1",
        b"\xff 1",
        b"2 1" + b"0" * 100,
    ],
)
def test_what_no_worker_says_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- float's own among them
        decode(data, NOW)


def test_what_was_before_ones_own_connection_is_no_news() -> None:
    assert FailoverGaps().report(Span(NOW - 9, NOW - 5), NOW - 4, NOW) is None


def test_a_gap_begins_where_ones_own_ended() -> None:
    assert FailoverGaps().report(Span(NOW - 9, NOW - 5), NOW - 7, NOW) == (NOW - 7, NOW)
    assert FailoverGaps().report(Span(NOW - 9, NOW - 5), NOW - 99, NOW) == (NOW - 9, NOW)


def test_many_who_say_the_same_are_one_gap() -> None:
    gaps = FailoverGaps()
    assert gaps.report(Span(NOW - 9, NOW - 5), 0, NOW)
    assert gaps.report(Span(NOW - 9, NOW - 4), 0, NOW + 1) is None
    assert gaps.due_in(NOW + 1) is None


def test_a_flood_of_spans_is_one_gap_at_once_and_one_after_each_interval() -> None:
    gaps = FailoverGaps()
    moments = [NOW + number * MIN_INTERVAL / 100 for number in range(250)]
    reported = [gaps.report(Span(now, now), 0, now) for now in moments]
    assert [gap for gap in reported if gap] == [
        (NOW, NOW),
        (NOW + MIN_INTERVAL / 100, NOW + MIN_INTERVAL),
        (NOW + MIN_INTERVAL * 1.01, NOW + MIN_INTERVAL * 2),
    ]
    end = NOW + MIN_INTERVAL * 3
    assert gaps.due_in(moments[-1]) == pytest.approx(end - moments[-1])
    assert gaps.due(0, end) == (NOW + MIN_INTERVAL * 2.01, end)
    assert gaps.due_in(end) is None


def test_a_merged_gap_is_none_if_this_workers_own_covers_it() -> None:
    gaps = FailoverGaps()
    assert gaps.report(Span(NOW - 1, NOW), 0, NOW)
    assert gaps.report(Span(NOW, NOW + 1), 0, NOW + 1) is None
    assert gaps.due(NOW + 5, NOW + MIN_INTERVAL) is None
    assert gaps.due_in(NOW + MIN_INTERVAL) is None
