"""Messages that a worker can hardly have sent: told, and not in every line of the log."""

from __future__ import annotations

import pytest

from fastapi_rooms.worker.doubts import REPEAT, Doubts


def test_doubts_are_told_at_once_and_then_counted_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0.0
    doubts = Doubts(lambda: now)
    for _ in range(1000):
        doubts.doubt("0123456789abcdef")
    now = REPEAT
    doubts.doubt("0123456789abcdef")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    first, second = caplog.messages
    assert "0123456789abcdef" in first
    assert "(1 times)" in first
    assert "(1000 times)" in second
