"""Requests that fail here, or make no sense: told at first, and then now and then."""

from __future__ import annotations

import pytest

from fastapi_rooms.cluster.failures import (
    MALFORMED_EVERY,
    TOLD_AT_ONCE,
    TOLD_EVERY,
    Failures,
)


def test_the_first_failures_are_told_with_their_tracebacks_and_then_one_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for _ in range(1000):
        failures.failed("emit", ZeroDivisionError())
    assert len(caplog.records) == TOLD_AT_ONCE
    assert all(record.exc_info for record in caplog.records)
    now = TOLD_EVERY
    for _ in range(2):
        failures.failed("emit", ZeroDivisionError())
    assert len(caplog.records) == TOLD_AT_ONCE + 1
    assert "(990 more have failed" in caplog.messages[-1]


def test_what_makes_no_sense_is_told_once_in_a_while_in_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    failures = Failures(lambda: now)
    for _ in range(1000):
        failures.malformed("emit", ValueError("a\nb"))
    (first,) = caplog.messages
    assert first.isprintable()
    assert "(1 such" in first
    now = MALFORMED_EVERY
    failures.malformed("emit", ValueError("c"))
    assert "(1000 such" in caplog.messages[-1]
    assert not any(record.exc_info for record in caplog.records)
