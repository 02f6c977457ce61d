"""What an adapter says of an outage."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fastapi_rooms.adapters import connection_status
from fastapi_rooms.adapters.connection_status import REPEAT, ConnectionStatus

PASSED = [0.0]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    PASSED[0] = 0.0
    time = SimpleNamespace(time=lambda: PASSED[0], monotonic=lambda: PASSED[0])
    monkeypatch.setattr(connection_status, "time", time)


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    lines = [(record.levelno, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return lines


def test_an_outage_is_told_once_when_it_begins_and_once_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = ConnectionStatus("Redis")
    status.start()
    status.update(True, "")
    assert told(caplog) == []
    status.update(False, "closed")
    ((level, line),) = told(caplog)
    assert level == logging.ERROR
    assert line.endswith(": closed")
    status.update(False, "refused")
    PASSED[0] = 2.5
    status.update(True, "")
    assert told(caplog) == [
        (logging.WARNING, "Redis is back after 2.5 s; rooms are complete again")
    ]


def test_a_long_outage_is_told_again_when_its_reason_changes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    status = ConnectionStatus("Redis")
    status.update(False, "closed")
    told(caplog)
    PASSED[0] = REPEAT + 1
    status.update(False, "closed")
    assert told(caplog) == []
    status.update(False, "wrong password")
    assert told(caplog) == [
        (logging.ERROR, "Redis is out of reach, rooms are local still: wrong password")
    ]
    status.update(False, "closed")
    assert told(caplog) == []  # not every change, but one now and then


def test_what_is_known_does_not_depend_on_the_handlers_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> None:
        raise OSError("no space left on device")

    status = ConnectionStatus("Redis")
    status.update(True, "")
    for method in ("error", "warning"):
        monkeypatch.setattr(connection_status.logger, method, fail)
    PASSED[0] = 1.0
    with pytest.raises(OSError, match="no space"):
        status.update(False, "closed")
    assert (status.connected, status.since, status.reason) == (False, 1.0, "closed")
    PASSED[0] = 2.0
    with pytest.raises(OSError, match="no space"):
        status.update(True, "")
    assert (status.connected, status.since, status.reason) == (True, 2.0, "")


def test_the_present_reason_is_kept_until_it_is_connected() -> None:
    status = ConnectionStatus("Redis")
    assert status.reason == ""
    status.update(False, "closed")
    status.update(False, "wrong password")
    assert status.reason == "wrong password"
    status.update(False, "")
    assert status.reason == "wrong password"
    status.update(True, "")
    assert status.reason == ""
