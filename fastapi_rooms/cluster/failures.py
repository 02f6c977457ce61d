"""What the log says of requests of other workers that fail here, or make no sense.

Whoever may write to the carrier can send one a thousand times a second. So the log tells of the
first of them, and then of one now and then, with the number of those it has not told of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi_rooms.core.printable import printable
from fastapi_rooms.core.token_bucket import TokenBucket

logger = logging.getLogger("fastapi_rooms")

TOLD_AT_ONCE = 10
"""Failures that are all told, each with its traceback: a handler has a bug, and maybe another."""

TOLD_EVERY = 10.0
"""Seconds from then on between two that are told."""

MALFORMED_EVERY = 600.0
"""Seconds between two lines about requests that make no sense."""


class _Told:
    """Which of many are told: some at once, then one in so many seconds."""

    def __init__(self, at_once: float, every: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket = TokenBucket(1 / every, at_once, clock())
        self._untold = 0

    def next(self) -> int | None:
        """One more: how many have not been told since the last that was; `None` to tell nothing."""
        if not self._bucket.holds(1, self._clock()):
            self._untold += 1
            return None
        self._bucket.take(1)
        untold, self._untold = self._untold, 0
        return untold


class Failures:
    """Logs them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._failed = _Told(TOLD_AT_ONCE, TOLD_EVERY, clock)
        self._malformed = _Told(1, MALFORMED_EVERY, clock)

    def failed(self, verb: str, error: BaseException) -> None:
        """The code here that carries out a request has raised."""
        untold = self._failed.next()
        if untold is not None:
            more = f" ({untold} more have failed since the last one that was told)" * bool(untold)
            logger.error("%r, asked for by another worker, failed%s", verb, more, exc_info=error)

    def malformed(self, verb: str, error: Exception) -> None:
        """What a request asks for cannot be done, as whoever sends it does not know how to ask."""
        untold = self._malformed.next()
        if untold is not None:
            logger.warning(
                "%r, asked for by another worker, makes no sense here: %s (%d such requests since "
                "the last line like this; health.dropped counts them)",
                printable(verb),
                printable(str(error)),
                untold + 1,
            )
