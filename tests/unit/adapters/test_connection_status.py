"""What an adapter says of an outage."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fastapi_rooms.adapters import connection_status as standing
from fastapi_rooms.adapters.connection_status import REPEAT, ConnectionStatus

PASSED = [0.0]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    PASSED[0] = 0.0
    time = SimpleNamespace(time=lambda: PASSED[0], monotonic=lambda: PASSED[0])
    monkeypatch.setattr(standing, "time", time)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return lines


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand = ConnectionStatus()
    stand.start()
    stand.update(True, "")
    assert told(caplog) == []
    stand.update(False, "closed")
    ((level, line),) = told(caplog)
    assert level == logging.ERROR
    assert line.endswith(": closed")
    stand.update(False, "refused")
    PASSED[0] = 2.5
    stand.update(True, "")
    assert told(caplog) == [
        (logging.WARNING, "Redis is back after 2.5 s; rooms are complete again")
    ]


def test_a_long_outage_is_told_again_when_its_reason_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand = ConnectionStatus()
    stand.update(False, "closed")
    told(caplog)
    PASSED[0] = REPEAT + 1
    stand.update(False, "closed")
    assert told(caplog) == []
    stand.update(False, "wrong password")
    assert told(caplog) == [
        (logging.ERROR, "Redis is out of reach, rooms are local still: wrong password")
    ]
    stand.update(False, "closed")
    assert told(caplog) == []  # not every change, but one now and then


def test_what_is_known_does_not_depend_on_the_handlers_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    stand = ConnectionStatus()
    stand.update(True, "")
    for method in ("error", "warning"):
        monkeypatch.setattr(standing.logger, method, fail)
    PASSED[0] = 1.0
    with pytest.raises(OSError, match="no space"):
        stand.update(False, "closed")
    assert (stand.connected, stand.since, stand.reason) == (False, 1.0, "closed")
    PASSED[0] = 2.0
    with pytest.raises(OSError, match="no space"):
        stand.update(True, "")
    assert (stand.connected, stand.since, stand.reason) == (True, 2.0, "")


def test_the_present_reason_is_kept_until_it_is_connected() -> None:
    stand = ConnectionStatus()
    assert stand.reason == ""
    stand.update(False, "closed")
    stand.update(False, "wrong password")
    assert stand.reason == "wrong password"
    stand.update(False, "")
    assert stand.reason == "wrong password"
    stand.update(True, "")
    assert stand.reason == ""
