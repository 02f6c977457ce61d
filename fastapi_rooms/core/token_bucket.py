"""A token bucket: it limits the average rate and allows bursts.

There is no timer: the bucket remembers its level at a time, and adds the tokens gained since then
when it is asked.
"""

from __future__ import annotations


class TokenBucket:
    """Holds up to `burst` tokens, is full at first, and gains `rate` tokens a second.

    All times are seconds of one monotonic clock; a time before the last one counts as the last.
    """

    __slots__ = ("_burst", "_level", "_rate", "_updated_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._updated_at = now

    def holds(self, amount: float, now: float) -> bool:
        """Whether there are `amount` tokens now."""
        if now > self._updated_at:
            self._level = min(self._burst, self._level + (now - self._updated_at) * self._rate)
            self._updated_at = now
        return amount <= self._level

    def take(self, amount: float) -> None:
        """Remove tokens, which the caller has checked for with `holds`."""
        self._level -= amount
