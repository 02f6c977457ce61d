"""Which other workers live, by what they let hear of themselves.

Strategy: every sign of a worker says when to expect the next. One that has let several of them
pass is taken for dead; one that says goodbye is gone at once. Nothing here waits or knows a clock:
the caller says what time it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi_rooms.types import NodeId

MISSED = 3
"""So many intervals without a sign of life, and a worker is taken for dead."""

MAX_PEERS = 4096
"""No more workers than this are believed in: whoever may write to Redis can invent some."""

MAX_INTERVAL = 3600.0


class Peers:
    """The other workers, and until when each is believed to live."""

    def __init__(self) -> None:
        self._until: dict[NodeId, float] = {}

    def __iter__(self) -> Iterator[NodeId]:
        return iter(self._until)

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, node: object) -> bool:
        return node in self._until

    def heard(self, node: NodeId, now: float, interval: float) -> None:
        """A worker lives, and promises another sign within `interval` seconds."""
        if node in self._until or len(self._until) < MAX_PEERS:
            self._until[node] = now + MISSED * min(interval, MAX_INTERVAL)

    def left(self, node: NodeId) -> None:
        """A worker has gone."""
        self._until.pop(node, None)

    def expire(self, now: float) -> list[NodeId]:
        """Take those for dead that have been silent for too long, and return them."""
        silent = [node for node, until in self._until.items() if until <= now]
        for node in silent:
            del self._until[node]
        return silent

    def clear(self) -> None:
        """Know nobody any more."""
        self._until.clear()
