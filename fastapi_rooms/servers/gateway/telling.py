"""When an edge is told what an endpoint has changed: as it reads, soon after it has sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fastapi_rooms.errors import RoomsError

logger = logging.getLogger("fastapi_rooms")

DELAY = 0.1
"""Seconds until an edge hears what an endpoint that only sends has changed: so much may be in doubt
at a crash."""


class Telling:
    """Tells it for one endpoint."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        """Called to tell what has changed. May raise `UsageError` if that cannot be told."""
        self._timer: asyncio.TimerHandle | None = None
        self._has_warned = False

    def now(self) -> None:
        """Tell it. Raises `UsageError`."""
        self._cancel()
        for callback in tuple(self.callbacks):
            callback()

    def soon(self) -> None:
        """Tell it in a moment, unless it was told before."""
        if self._timer is None and self.callbacks:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self.at_last)

    def at_last(self) -> None:
        """Tell it where the endpoint cannot have an error raised. One that reads has it there."""
        try:
            self.now()
        except RoomsError as error:
            if not self._has_warned:
                logger.warning("The state of a socket is not known beyond this backend: %s", error)
            self._has_warned = True

    def stop(self) -> None:
        """Tell nothing any more."""
        self._cancel()
        self.callbacks.clear()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
