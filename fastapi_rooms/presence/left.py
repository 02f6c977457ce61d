"""The rooms that a worker has left lately: pure.

A carrier of several nodes keeps a room on one of them, and which rooms a worker has on another. If
the first loses its last writes, the worker's sockets are in the room again, and nothing
leads there.
"""

from __future__ import annotations

from fastapi_rooms.presence.host import Name

KEPT = 600.0
"""Seconds for which they are known: longer than a node has written what its successor lacks."""

MAX_LEFT = 10_000
"""Of more, the last are known."""


class LeftRooms:
    """Rooms in which this worker has no socket any more. Times are in seconds, of any clock."""

    def __init__(self) -> None:
        self._left: dict[Name, float] = {}  # the first of them first

    def add(self, name: Name, now: float) -> None:
        """This worker has left a room."""
        self._left.pop(name, None)
        self._left[name] = now
        self._forget(now)

    def names(self, now: float) -> list[Name]:
        """The rooms that were left lately."""
        self._forget(now)
        return [*self._left]

    def _forget(self, now: float) -> None:
        while self._left:
            name, since = next(iter(self._left.items()))
            if len(self._left) <= MAX_LEFT and now - since < KEPT:
                return
            del self._left[name]
