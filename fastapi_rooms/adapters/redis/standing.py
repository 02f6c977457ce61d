"""Whether an adapter is connected, and since when; an outage leaves two lines in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

logger = logging.getLogger("fastapi_rooms")


class Standing:
    """How an adapter stands, between its start and its close."""

    def __init__(self) -> None:
        self.connected = False
        self.since = time.time()
        """Since when `connected` has been what it is, in seconds since the epoch."""
        self._logged = False
        self._first_attempt = asyncio.Event()

    def start(self) -> None:
        """Nothing has been tried yet."""
        self._first_attempt = asyncio.Event()
        self._logged = False

    def close(self) -> None:
        """Nothing is connected any more."""
        self.connected, self.since = False, time.time()

    async def first_attempt(self, timeout: float) -> None:
        """Return when it is connected, or has failed, or so many seconds are over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._first_attempt.wait()

    def update(self, connected: bool, why: str) -> None:
        """A connection came or went; `why` it is down, or nothing if that is still open.

        Logs an outage once when it begins and once when it ends.
        """
        now = time.time()
        if connected:
            self._first_attempt.set()
            if self._logged:
                self._logged = False
                logger.warning(
                    "Redis is back after %.1f s; rooms are complete again", now - self.since
                )
        elif why:
            self._first_attempt.set()
            if not self._logged:
                self._logged = True
                logger.error("Redis is out of reach, rooms are local until it is back: %s", why)
        if connected is not self.connected:
            self.connected, self.since = connected, now
