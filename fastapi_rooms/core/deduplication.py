"""Which envelopes have been seen already.

A publisher that loses its connection cannot know whether its unanswered messages arrived, and
sends them again. Each origin's sequence rises, and everything of one source arrives in order; so
what is not above the highest sequence seen of its source has been seen. A source is an origin, or
where order holds only within a shard, an origin and a shard.

Whoever may write to Redis can forge envelopes, so memory is bounded, and a forged sequence cannot
silence its origin: what is sent again was sent a moment before, so what is far below the highest
sequence has not been seen; it is the highest that was wrong.
"""

from __future__ import annotations

from typing import TypeAlias

from fastapi_rooms.types import NodeId

Source: TypeAlias = NodeId | tuple[NodeId, int]

MAX_SOURCES = 4096
"""Some 500 KiB."""

MAX_SHARDED_SOURCES = 65_536
"""Some 16 MiB, when as many were heard of late."""

WINDOW = 1 << 17
"""How far behind a message can be that is sent again: five seconds at 26,000 a second."""


class Duplicates:
    """The highest sequence of each source; the sources longest silent are forgotten first."""

    def __init__(self, limit: int = MAX_SOURCES) -> None:
        self._limit = limit
        self._highest: dict[Source, int] = {}

    def is_new(self, source: Source, sequence: int) -> bool:
        """Whether this has not been seen before. It has from now on."""
        highest = self._highest.pop(source, -1)
        new = sequence > highest or sequence < highest - WINDOW
        self._highest[source] = sequence if new else highest
        if len(self._highest) > self._limit:
            del self._highest[next(iter(self._highest))]
        return new
