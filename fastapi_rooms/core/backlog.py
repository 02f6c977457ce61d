"""How much waits to be written to this worker's clients, and whether more may come.

The limit is one for the worker, in two measures: the bytes that what waits takes, and the seconds
that writing it will take. The latter is an estimate, by the rate of the last writes.

One flow, the messages to the same rooms, may take no more than is left for all others: the dynamic
threshold by which switches share a buffer (Choudhury and Hahne, 1998). A flood to one room gets
half of the limit and a flood to n rooms n / (n + 1) of it, so that there is always some left for a
room that is sent little.
"""

from __future__ import annotations

from collections.abc import Hashable

MAX_BYTES = 32 * 1024 * 1024
"""The memory that waiting messages may take, by our estimate."""

MEMBER_BYTES = 128
"""What it takes to remember one member of a room that a message waits for."""

VOLATILE_SHARE = 1 / 8
"""The part of the limit beyond which volatile messages are skipped."""

_FIRST_RATE = 150_000.0
"""Writes a second that are assumed at first: some 7 µs each."""

_LOWEST_RATE, _HIGHEST_RATE = _FIRST_RATE / 16, _FIRST_RATE * 4
"""A machine that was suspended, or lucky, for a moment is not taken at its word."""

_SLOWER, _FASTER = 1 / 4, 1 / 32
"""How much the last measurement counts: more if it is slower, as too long a queue is the risk."""


class Backlog:
    """The messages that wait on one worker, as parts of the limit. It knows no clock.

    Args:
        max_lag: the seconds that writing what waits may take.
    """

    def __init__(self, max_lag: float) -> None:
        self._max_lag = max_lag
        self._rate = _FIRST_RATE
        self._shares: dict[Hashable, float] = {}
        self._total = 0.0

    @property
    def total(self) -> float:
        """How much of the limit is taken: 1 is all of it. Messages sent here may exceed it."""
        return self._total

    @property
    def is_full(self) -> bool:
        """Whether those who send here are to wait."""
        return self._total >= 1

    def cost(self, size: int, writes: float) -> float:
        """The part of the limit that so many bytes of memory and so many writes are."""
        return size / MAX_BYTES + writes / (self._rate * self._max_lag)

    def admits(self, flow: Hashable, cost: float, *, volatile: bool) -> bool:
        """Whether a message that costs so much may wait. If nothing waits, any may."""
        free = (VOLATILE_SHARE if volatile else 1) - self._total
        return self._total == 0 or self._shares.get(flow, 0.0) + cost <= free

    def add(self, flow: Hashable, cost: float) -> None:
        """A message waits."""
        self._shares[flow] = self._shares.get(flow, 0.0) + cost
        self._total += cost

    def remove(self, flow: Hashable, cost: float) -> None:
        """Messages of a flow wait no longer."""
        left = self._shares[flow] - cost
        # What is left of many small additions and one subtraction is not quite nothing.
        if left > 1e-9:
            self._shares[flow] = left
        else:
            del self._shares[flow]
        self._total = self._total - cost if self._shares else 0.0

    def measured(self, writes: float, seconds: float) -> None:
        """So many writes took so long."""
        rate = writes / seconds if seconds > 0 else _HIGHEST_RATE
        rate = min(max(rate, _LOWEST_RATE), _HIGHEST_RATE)
        self._rate += (rate - self._rate) * (_SLOWER if rate < self._rate else _FASTER)
