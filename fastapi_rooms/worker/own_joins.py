"""Rooms that an endpoint behind an edge is joining, and leaves meanwhile.

The edge hears of a leave after it has heard of the join, which may not have begun there, or whose
answer may be on its way already. So at both ends, what was left since a join began is not joined by
it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fastapi_rooms.types import Room


class OwnJoins:
    """Those of one socket that are under way."""

    __slots__ = ("_left", "_rooms", "_turn")

    def __init__(self) -> None:
        self._rooms: Counter[Room] = Counter()
        self._left: dict[Room, int] = {}
        self._turn = 0

    def __contains__(self, room: Room) -> bool:
        return room in self._rooms

    def is_only_of(self, room: Room) -> bool:
        """Whether one join of a room is under way, and no other."""
        return self._rooms[room] == 1

    def begin(self, rooms: Iterable[Room]) -> int:
        """A join is under way until `end` is called; gives its place among joins and leaves."""
        self._rooms.update(rooms)
        return self._turn

    def end(self, rooms: Iterable[Room]) -> None:
        """It is over."""
        self._rooms -= Counter(rooms)
        for room in self._left.keys() - self._rooms.keys():
            del self._left[room]

    def leave(self, rooms: Iterable[Room]) -> None:
        """The endpoint leaves rooms, which it may be joining."""
        for room in rooms:
            if room in self._rooms:
                self._turn += 1
                self._left[room] = self._turn

    def not_left(self, rooms: Iterable[Room], began: int) -> tuple[Room, ...]:
        """Those that it has not left since a join of them began."""
        return tuple(room for room in rooms if not self.has_left(room, began))

    def has_left(self, room: Room, began: int) -> bool:
        """Whether it has left a room since a join of it began."""
        return self._left.get(room, 0) > began
