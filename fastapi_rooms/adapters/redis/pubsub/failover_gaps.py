"""What was published on a node that others had left already: they are told, and report a gap.

In a failover the workers do not leave the old master at the same moment. What one of them publishes
there after another has left is accepted, and never reaches that other, whose own gap ended when it
came to the new master. So whoever comes to another node says in which span of time it may have
published in vain. Ages are sent rather than times: clocks of two machines differ.
"""

from __future__ import annotations

import math
from typing import NamedTuple

MAX_AGE = 86_400.0
"""Seconds; an older span is a lie."""


class Span(NamedTuple):
    """From when until when, in seconds since the epoch, or as ages: seconds ago."""

    since: float
    until: float


def encode(span: Span, now: float) -> bytes:
    """A span that is over, as ages."""
    until = min(max(now - span.until, 0.0), MAX_AGE)
    since = min(max(now - span.since, until), MAX_AGE)
    return f"{since:.6f} {until:.6f}".encode()


def decode(data: bytes, now: float) -> Span:
    """What a worker says. Raises `ValueError` for what none would say."""
    if len(data) > 40:
        raise ValueError("too long")
    since, until = (float(field) for field in data.split(b" "))
    if not (math.isfinite(since) and 0 <= until <= since <= MAX_AGE):
        raise ValueError("not a span of time that is over")
    return Span(now - since, now - until)


class FailoverGaps:
    """Which of the spans that are heard of are news to this worker."""

    def __init__(self) -> None:
        self._told = 0.0

    def news(self, span: Span, connected_since: float, now: float) -> Span | None:
        """The gap to report, if there is one.

        What was before `connected_since` is in this worker's own gap; and many workers that came
        from one node say the same.
        """
        known = max(connected_since, self._told)
        if span.until <= known:
            return None
        self._told = now
        return Span(max(span.since, known), now)
