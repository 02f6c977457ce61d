"""Recognizes messages that come too late: behind later ones of the same origin in the same shard.

In a failover of a Redis Cluster, a master that was frozen or cut off may hand on, long after, what
a worker has missed by then and was told of as a gap. Delivered, it would break the order.

Such a message cannot be told from a real one that comes after a forged, higher number. So this is
looked at only while it can happen: for some time after an outage.
"""

from __future__ import annotations

from typing import TypeAlias

from fastapi_rooms.types import NodeId

Source: TypeAlias = tuple[NodeId, int]
"""An origin, and a shard."""

MAX_SOURCES = 65_536
"""About 16 MiB of memory, if that many sources sent something."""

AFTERMATH = 600.0
"""Seconds after an outage in which messages may come too late."""


class Late:
    """The highest number of each source, for those that sent something last."""

    def __init__(self) -> None:
        self._highest: dict[Source, int] = {}
        self._until = float("-inf")

    def outage(self, now: float) -> None:
        """There was an outage: for some time, what comes late is recognized."""
        self._until = now + AFTERMATH

    def is_late(self, source: Source, sequence: int, now: float) -> bool:
        """Whether a message that is new comes behind a later one, and is to be dropped."""
        highest = self._highest.pop(source, -1)
        late = sequence < highest and now < self._until
        self._highest[source] = highest if late else sequence
        if len(self._highest) > MAX_SOURCES:
            del self._highest[next(iter(self._highest))]
        return late
