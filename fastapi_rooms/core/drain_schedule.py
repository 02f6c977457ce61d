"""When a draining worker closes each of its clients: a few at once, thousands over a window.

Clients reconnect to the other workers as soon as they are closed. Spreading the closes keeps the
rate of reconnects at what those workers can handle; the window bounds how long stopping takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fastapi_rooms.core.checks import check_not_negative, check_positive

IMMEDIATE_MAX = 10
"""Up to this many clients are closed at once, so that stopping a development server is instant."""

CLOSES_PER_SECOND = 100
"""About how many of more clients are closed per second; more where the window is too short."""

_WINDOW_SHARE, _TIMEOUT_SHARE = 0.5, 0.3
"""The most that `window` and `timeout` may take of a server's own shutdown timeout.

The rest is for the server to notice that its connections are closed, and for endpoints to end.
"""


@dataclass(frozen=True, slots=True)
class DrainSchedule:
    """How long a worker's drain may take, in seconds.

    Raises:
        ConfigurationError: a negative `window`, or a `timeout` that is not above zero.
    """

    window: float = 5.0
    """The time over which many clients are closed."""

    timeout: float = 3.0
    """How long each client has to receive what is queued for it, and its close frame."""

    def __post_init__(self) -> None:
        check_not_negative("drain_window", self.window)
        check_positive("drain_timeout", self.timeout)

    def within(self, seconds: float | None) -> DrainSchedule:
        """Shorten the schedule to a server's shutdown timeout; `None` means no timeout."""
        if seconds is None:
            return self
        seconds = max(seconds, 0.001)
        return replace(
            self,
            window=min(self.window, seconds * _WINDOW_SHARE),
            timeout=min(self.timeout, seconds * _TIMEOUT_SHARE),
        )

    def delays(self, count: int, jitter: Callable[[], float]) -> Iterator[float]:
        """The seconds from now after which each of `count` clients is closed, in ascending order.

        The time is divided into `count` equal slots, and each client is closed at a random point
        of its own slot, so that workers that drain together do not close theirs in step. `jitter`
        returns that point: at least 0, less than 1.
        """
        span = min(self.window, max(0, count - IMMEDIATE_MAX) / CLOSES_PER_SECOND)
        return (span * ((number + jitter()) / count) for number in range(count))
