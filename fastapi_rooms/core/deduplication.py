"""Recognizes envelopes that were received before.

A publisher whose connection breaks cannot know whether Redis processed the messages it has no reply
to, so it sends them again. The sequence numbers of an origin rise, and the messages of one source
arrive in order: a message whose number is not above the highest one of its source is a repetition.
A source is an origin or, where order holds only within a shard, an origin and a shard.

Anyone who may publish to Redis can forge envelopes. So the number of remembered sources is bounded,
and a forged high number cannot suppress an origin's messages: repetitions follow shortly after the
original, so a number far below the highest one is not a repetition but shows that the highest one
was forged.
"""

from __future__ import annotations

from typing import TypeAlias

from fastapi_rooms.types import NodeId

Source: TypeAlias = NodeId | tuple[NodeId, int]

MAX_SOURCES = 4096
"""About 500 KiB of memory."""

MAX_SHARDED_SOURCES = 65_536
"""About 16 MiB of memory, if that many sources sent something."""

WINDOW = 1 << 17
"""How far a repetition may be below the highest number: 5 seconds at 26,000 messages a second."""


class Duplicates:
    """The highest sequence number of each source, for the sources that sent something last."""

    def __init__(self, limit: int = MAX_SOURCES) -> None:
        self._limit = limit
        self._highest: dict[Source, int] = {}

    def is_new(self, source: Source, sequence: int) -> bool:
        """Whether this is the first time that `sequence` arrives from `source`; remembers it."""
        highest = self._highest.pop(source, -1)
        new = sequence > highest or sequence < highest - WINDOW
        self._highest[source] = sequence if new else highest
        if len(self._highest) > self._limit:
            del self._highest[next(iter(self._highest))]
        return new
