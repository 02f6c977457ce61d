"""When each client of a leaving worker is closed: few of them at once, thousands over a window.

Clients that are closed reconnect, most of them at once, and to the workers that stay. So they are
closed at a pace that those can take in, and never over more than the window, as whoever stops a
worker does not wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fastapi_rooms.core.checks import check_not_negative, check_positive

FEW = 10
"""So many are closed at once: a developer's browser tabs, say."""

PACE = 100
"""Clients closed in a second past the first few, while the window is long enough for that."""

_SHARES = 0.5, 0.3
"""What the window and the last client's time may take of the time that the server gives us; the
rest is for the server to notice, and for the endpoints to end."""


@dataclass(frozen=True, slots=True)
class DrainSchedule:
    """The two spans, in seconds, that a worker's leaving may take.

    Raises:
        ConfigurationError: for a span that cannot be.
    """

    window: float = 5.0
    """Over how long clients are closed, when there are many."""

    timeout: float = 3.0
    """How long each of them has to take what is left for it, and its close frame."""

    def __post_init__(self) -> None:
        check_not_negative("drain_window", self.window)
        check_positive("drain_timeout", self.timeout)

    def within(self, seconds: float | None) -> DrainSchedule:
        """The same, shortened where a server lets us have only so long; `None` is for ever."""
        if seconds is None:
            return self
        window, timeout = (share * max(seconds, 0.001) for share in _SHARES)
        return replace(self, window=min(self.window, window), timeout=min(self.timeout, timeout))

    def moments(self, count: int, jitter: Callable[[], float]) -> list[float]:
        """When each of `count` clients is closed, in seconds from now, in ascending order.

        The span they need is cut into as many equal slots; each is closed somewhere in its own, by
        `jitter`, which gives a number from 0 up to 1. Workers that leave together so do not close
        theirs in step.
        """
        span = min(self.window, max(0, count - FEW) / PACE)
        return [span * ((number + jitter()) / count) for number in range(count)]
