"""Messages that arrive after their publisher has stopped waiting for them: pure.

While RabbitMQ is low on memory or disk, or frozen, what was written to it waits there. The sender
is told that it was not accepted; when RabbitMQ goes on, it is delivered all the same. To whoever
receives it then it would look new. So a message says when it was published and how long its
publisher waits, and one that comes about as late as that is not delivered, but told as a gap.

The clocks of two machines have nothing to do with each other. What is known is that no message
arrives before it was sent: so the least difference between the two times, of late, is taken for
that of the clocks. The difference changes a little all the time, and at once where a machine
was suspended; so it is the least of the last two spans of `SPAN` seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SPAN: Final = 10.0
"""Seconds."""

MARGIN: Final = 0.5
"""A message is late so many seconds before its publisher gives it up, as what is known of the
clocks is not exact; where publishers wait for less than a second, after half of that."""

MAX_PUBLISHERS: Final = 8192
"""Of more, those that were heard longest ago are forgotten."""


class _Publisher:
    __slots__ = ("before", "least", "since")

    def __init__(self, difference: float, now: float) -> None:
        self.least = self.before = difference
        self.since = now


class Lateness:
    """What is known of the publishers' clocks."""

    def __init__(self) -> None:
        self._publishers: OrderedDict[bytes, _Publisher] = OrderedDict()

    def is_late(self, publisher: bytes, sent: float, timeout: float, now: float) -> bool:
        """Whether a message that was sent then, and has come now, is not waited for any more."""
        difference = now - sent
        known = self._publishers.get(publisher)
        if known is None:
            self._add(publisher, difference, now)
            return False
        if now - known.since > SPAN:
            known.before, known.least, known.since = known.least, difference, now
            self._publishers.move_to_end(publisher)
        elif difference < known.least:
            known.least = difference
        return difference - min(known.least, known.before) > max(timeout - MARGIN, timeout / 2)

    def _add(self, publisher: bytes, difference: float, now: float) -> None:
        if len(self._publishers) >= MAX_PUBLISHERS:
            self._publishers.popitem(last=False)
        self._publishers[publisher] = _Publisher(difference, now)
