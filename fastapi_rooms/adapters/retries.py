"""When channels that the carrier refused are asked for again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi_rooms.adapters.subscriptions import Subscriptions

RETRY_DELAY = 0.5
"""Seconds until channels are asked for again that the carrier could not subscribe."""

FORBIDDEN_DELAY = 5.0
"""Seconds until forbidden channels are asked for again: permissions can be granted again."""


class Retries:
    """Makes refused channels due again after a delay, and calls `flush`."""

    def __init__(self, subscriptions: Subscriptions, flush: Callable[[], None]) -> None:
        self._subscriptions = subscriptions
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._refused: asyncio.TimerHandle | None = None
        self._forbidden: asyncio.TimerHandle | None = None

    def refused(self) -> None:
        """The carrier could not subscribe some channels."""
        if self._refused is None:
            self._refused = self._loop.call_later(RETRY_DELAY, self._retry_refused)

    def forbidden(self) -> None:
        """The carrier forbids some channels."""
        if self._forbidden is None:
            self._forbidden = self._loop.call_later(FORBIDDEN_DELAY, self._retry_forbidden)

    def _retry_refused(self) -> None:
        self._refused = None
        self._subscriptions.retry_refused()
        self._flush()

    def _retry_forbidden(self) -> None:
        self._forbidden = None
        self._subscriptions.retry_forbidden()
        self._flush()

    def stop(self) -> None:
        """Retry nothing any more."""
        for timer in (self._refused, self._forbidden):
            if timer is not None:
                timer.cancel()
