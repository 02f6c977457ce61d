"""Whether an adapter is connected, since when, and why not; an outage leaves two lines in the log.

A long outage leaves a third one, if its reason changes meanwhile.
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
    """The status of an adapter between its start and its close.

    Args:
        carrier: the carrier's name, for the log.
        outage: what the log says of an outage, where it differs from "(carrier) is out of reach".
    """

    def __init__(self, carrier: str, outage: str | None = None) -> None:
        self._carrier = carrier
        self._outage = outage or f"{carrier} is out of reach, rooms are local"
        self.connected = False
        self.since = time.time()
        """Since when `connected` has had its value, in seconds since the epoch."""
        self.reason = ""
        """Why it is not connected; empty when it is, or when the reason is not known."""
        self._logged: tuple[str, float] | None = None
        self._first_attempt = asyncio.Event()

    def start(self) -> None:
        """Begin a run, in which nothing has been tried yet."""
        self._first_attempt = asyncio.Event()
        self._logged = None
        self.reason = ""
        if self.connected:  # the last run was never closed: its event loop or process is gone
            self.connected, self.since = False, time.time()

    def close(self) -> None:
        """End the run."""
        self.connected, self.since, self.reason = False, time.time(), ""

    async def first_attempt(self, timeout: float) -> None:
        """Return when it is connected, or an attempt has failed, or after `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._first_attempt.wait()

    def update(self, connected: bool, why: str) -> None:
        """Note the state of the connections; `why` they are down, empty if that is still open.

        Logs an outage when it begins, when it ends, and seldom in between. That comes last, as a
        logging handler may raise.
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
                logger.warning(
                    "%s is back after %.1f s; rooms are complete again", self._carrier, lasted
                )
        elif why:
            if self._logged is None:
                self._logged = (why, time.monotonic())
                logger.error("%s until it is back: %s", self._outage, why)
            elif why != self._logged[0] and time.monotonic() - self._logged[1] > REPEAT:
                self._logged = (why, time.monotonic())
                logger.error("%s still: %s", self._outage, why)
