"""What the log says of messages that a worker can hardly have sent, though they bear its name."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastapi_rooms.types import NodeId

logger = logging.getLogger("fastapi_rooms")

REPEAT = 600.0
"""Seconds until the log says so again: whoever forges messages must not fill it."""


class Doubts:
    """Logs the first doubt, and the number of others once in a while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told_at: float | None = None
        self._untold = 0

    def doubt(self, origin: NodeId) -> None:
        """Messages in the name of `origin` carry numbers that it cannot have given in this order.

        They are delivered all the same, as nobody can tell which of them are forged.
        """
        self._untold += 1
        now = self._clock()
        if self._told_at is not None and now < self._told_at + REPEAT:
            return
        logger.warning(
            "Somebody else seems to send in the name of worker or emitter %s: its messages carry "
            "numbers that it cannot have given (%d times). Look who may publish to Redis.",
            origin,
            self._untold,
        )
        self._told_at, self._untold = now, 0
