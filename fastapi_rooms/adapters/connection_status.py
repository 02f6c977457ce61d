"""Whether an adapter is connected, since when, and why not; an outage leaves two lines in the log.

A third one only follows if it is long, and what is wrong becomes another thing meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

logger = logging.getLogger("fastapi_rooms")

REPEAT = 30.0
"""Seconds after which an outage is logged again, if its reason has changed since."""


class ConnectionStatus:
    """How an adapter stands, between its start and its close."""

    def __init__(self, outage: str = "Redis is out of reach, rooms are local") -> None:
        self._outage = outage
        self.connected = False
        self.since = time.time()
        """Since when `connected` has been what it is, in seconds since the epoch."""
        self.reason = ""
        """Why it is not connected; empty when it is, or when nothing is known yet."""
        self._logged: tuple[str, float] | None = None
        self._first_attempt = asyncio.Event()

    def start(self) -> None:
        """Nothing has been tried yet."""
        self._first_attempt = asyncio.Event()
        self._logged = None
        self.reason = ""
        if self.connected:  # in a run that was never closed, as its event loop or process is gone
            self.connected, self.since = False, time.time()

    def close(self) -> None:
        """Nothing is connected any more."""
        self.connected, self.since, self.reason = False, time.time(), ""

    async def first_attempt(self, timeout: float) -> None:
        """Return when it is connected, or has failed, or so many seconds are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._first_attempt.wait()

    def update(self, connected: bool, why: str) -> None:
        """A connection came or went; `why` it is down, or nothing if that is still open.

        Logs an outage when it begins, when it ends, and seldom in between. That comes last: a
        handler of the log may raise.
        """
        now = time.time()
        lasted = now - self.since
        self.reason = "" if connected else why or self.reason
        if connected is not self.connected:
            self.connected, self.since = connected, now
        if connected or why:
            self._first_attempt.set()
        if connected:
            if self._logged is not None:
                self._logged = None
                logger.warning("Redis is back after %.1f s; rooms are complete again", lasted)
        elif why:
            if self._logged is None:
                self._logged = (why, time.monotonic())
                logger.error("%s until it is back: %s", self._outage, why)
            elif why != self._logged[0] and time.monotonic() - self._logged[1] > REPEAT:
                self._logged = (why, time.monotonic())
                logger.error("%s still: %s", self._outage, why)
