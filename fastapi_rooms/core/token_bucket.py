"""A token bucket: so many per second on average, so many at once.

Strategy: nothing ticks. The bucket knows how full it was and when; what has flowed in since is
added when something is taken.
"""

from __future__ import annotations


class TokenBucket:
    """Holds up to `burst` tokens and gains `rate` a second. Full when made.

    Times are seconds of any one monotonic clock; a time before the last one counts as the last.
    """

    __slots__ = ("_burst", "_level", "_rate", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._when = now

    def holds(self, amount: float, now: float) -> bool:
        """Whether so many tokens are there now."""
        if now > self._when:
            self._level = min(self._burst, self._level + (now - self._when) * self._rate)
            self._when = now
        return amount <= self._level

    def take(self, amount: float) -> None:
        """Take tokens that `holds` has found there."""
        self._level -= amount
