"""Which envelopes have been seen already.

A publisher that loses its connection cannot know whether its unanswered messages arrived, and
sends them again. Each origin's sequence rises, and everything of one origin arrives in order; so
what is not above the highest sequence seen of its origin has been seen.
"""

from __future__ import annotations

from fastapi_rooms.types import NodeId

MAX_ORIGINS = 4096


class Duplicates:
    """The highest sequence of each origin; the origins longest silent are forgotten first."""

    def __init__(self) -> None:
        self._highest: dict[NodeId, int] = {}

    def is_new(self, origin: NodeId, sequence: int) -> bool:
        """Whether this has not been seen before. It has from now on."""
        highest = self._highest.pop(origin, -1)
        self._highest[origin] = max(highest, sequence)
        if len(self._highest) > MAX_ORIGINS:
            del self._highest[next(iter(self._highest))]
        return sequence > highest
