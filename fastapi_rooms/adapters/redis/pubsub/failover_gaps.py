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
    """Which of the spans that others report add to what this worker knows."""

    def __init__(self) -> None:
        self._reported_until = 0.0

    def new_gap(self, span: Span, connected_since: float, now: float) -> Span | None:
        """The gap to report, if there is one.

        What was before `connected_since` is in this worker's own gap; and workers that left the
        same node report about the same span.
        """
        known = max(connected_since, self._reported_until)
        if span.until <= known:
            return None
        self._reported_until = now
        return Span(max(span.since, known), now)
