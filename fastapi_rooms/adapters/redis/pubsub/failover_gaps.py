"""Messages that were published on a node which others had already left, and the gap they leave.

In a failover the workers do not leave the old master at the same moment. What one worker publishes
there after another has left is accepted, and never reaches that other, whose own gap ended when it
connected to the new master. So a worker that comes to another node tells the others in which span
of time its messages may have been lost. Spans are sent as ages, as the clocks of machines differ.
"""

from __future__ import annotations

import math
from typing import NamedTuple

MAX_AGE = 86_400.0
"""Seconds; an older span is not believed."""

MIN_INTERVAL = 10.0
"""Seconds between two gaps of this kind."""


class Span(NamedTuple):
    """From when until when, in seconds since the epoch, or as ages in seconds."""

    since: float
    until: float


def encode(span: Span, now: float) -> bytes:
    """A span that is over, as ages."""
    until = min(max(now - span.until, 0.0), MAX_AGE)
    since = min(max(now - span.since, until), MAX_AGE)
    return f"{since:.6f} {until:.6f}".encode()


def decode(data: bytes, now: float) -> Span:
    """The span that a worker reports. Raises `ValueError` for anything else."""
    if len(data) > 40:
        raise ValueError("too long")
    since, until = (float(field) for field in data.split(b" "))
    if not (math.isfinite(since) and 0 <= until <= since <= MAX_AGE):
        raise ValueError("not a span of time that is over")
    return Span(now - since, now - until)


class NodeChanges:
    """Whether a publisher has come to another node, and in which span it may have lost messages.

    The span begins when the old node was last known to be a master, and ends with its last reply.
    Times are seconds since the epoch.
    """

    def __init__(self) -> None:
        self._node: object = None
        self._master_at = 0.0
        self._is_demoted = False
        self._left: Span | None = None
        self._unreported: Span | None = None

    def connected(self, node: object, now: float) -> None:
        """There is a link to `node`, which said that it is a master."""
        if self._left is not None and (self._is_demoted or node != self._node):
            earlier = self._unreported
            since = self._left.since if earlier is None else earlier.since
            self._unreported = Span(since, self._left.until)
        self._node, self._left, self._is_demoted = node, None, False
        self._master_at = now

    def disconnected(self, last_received: float) -> None:
        """The link is lost."""
        self._left = Span(self._master_at, last_received)

    def still_master(self, when: float) -> None:
        """The node was a master at that time."""
        self._master_at = when

    def demoted(self) -> None:
        """The node is a master no longer: the next link counts as one to another node."""
        self._is_demoted = True

    def take_span(self) -> Span | None:
        """The span that has not been reported yet; the caller reports it."""
        span, self._unreported = self._unreported, None
        return span


class FailoverGaps:
    """Which of the spans that others report add to what this worker knows.

    Whoever may write to Redis can report spans without end, and each gap concerns every room. So
    there is one gap at once, and those after it are merged into one after each `MIN_INTERVAL`.
    """

    def __init__(self) -> None:
        self._reported_until = 0.0
        self._next_at = 0.0
        self._merged: Span | None = None

    def report(self, span: Span, connected_since: float, now: float) -> Span | None:
        """The gap to report now, if there is one; `due_in` says when to look for a later one.

        What was before `connected_since` is in this worker's own gap; and workers that left the
        same node report about the same span.
        """
        if span.until > max(connected_since, self._reported_until):
            merged = self._merged or span
            self._merged = Span(min(merged.since, span.since), max(merged.until, span.until))
        return self.due(connected_since, now)

    def due(self, connected_since: float, now: float) -> Span | None:
        """The gap that is to be reported by now, if there is one."""
        known, span = max(connected_since, self._reported_until), self._merged
        if span is None or self.due_in(now):
            return None
        self._merged = None
        if span.until <= known:
            return None  # there was an outage of this worker's own meanwhile
        self._reported_until, self._next_at = now, now + MIN_INTERVAL
        return Span(max(span.since, known), now)

    def due_in(self, now: float) -> float | None:
        """Seconds until `due` has something to report; `None` if there is nothing."""
        if self._merged is None:
            return None
        wait = self._next_at - now
        return wait if 0 < wait <= MIN_INTERVAL else 0.0  # longer: the clock was set back
