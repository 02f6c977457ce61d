"""What the log says of channels that Redis has come to forbid."""

from __future__ import annotations

import logging

import pytest

from fastapi_rooms.adapters.forbidden import NAMED, Forbidden


def test_each_is_told_once_and_the_end_when_none_is_left(caplog: pytest.LogCaptureFixture) -> None:
    forbidden = Forbidden("Redis")

    def said_of(*channels: bytes) -> list[tuple[int, str]]:
        caplog.clear()
        forbidden.update(frozenset(channels), "NOPERM no")
        return [(record.levelno, record.getMessage()) for record in caplog.records]

    assert said_of() == []
    [(level, first)] = said_of(b"a", b"b")
    assert level == logging.ERROR
    assert "2 channel(s)" in first
    assert first.endswith(": a, b (NOPERM no)")
    assert said_of(b"a", b"b") == []
    [(_, second)] = said_of(b"a", b"b", b"c\xff")
    assert "1 channel(s)" in second
    assert second.endswith(r": c\xff (NOPERM no)")
    assert said_of(b"a") == []
    [(level, _)] = said_of()
    assert level == logging.WARNING
    assert said_of() == []


def test_those_that_are_not_wanted_any_more_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    forbidden = Forbidden("Redis")
    forbidden.update(frozenset((b"a", b"b")), "NOPERM no")
    forbidden.forget([b"a", b"c"])
    assert forbidden.channels == {b"b"}
    forbidden.forget([b"b"])
    forbidden.update(frozenset(), "")
    assert len(caplog.records) == 1


def test_a_line_names_some_of_many(caplog: pytest.LogCaptureFixture) -> None:
    Forbidden("Redis").update(frozenset(b"%d" % number for number in range(10, 100)), "NOPERM no")
    [record] = caplog.records
    assert record.getMessage().count(", ") == NAMED + 1  # one of them in the sentence
    assert "14, … (" in record.getMessage()


def test_the_names_of_rooms_cannot_control_a_terminal_or_forge_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Forbidden("Redis").update(frozenset((b"rooms#/#\x1b[2J\nERROR forged#",)), "NOPERM no")
    assert caplog.messages[0].isprintable()
