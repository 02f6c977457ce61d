"""SIGHUP ends a command as SIGTERM does, unless it was started to outlive that."""

from __future__ import annotations

import signal

import pytest

from fastapi_rooms.cli.serving import ends_by_hangup


@pytest.mark.parametrize(("handler", "ends"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_hangup_that_is_ignored_stays_so(handler: signal.Handlers, ends: bool) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert ends_by_hangup() is ends
    finally:
        signal.signal(signal.SIGHUP, before)
