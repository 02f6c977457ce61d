"""The versions of rooms' events that handlers were told of: each is told once, and in its place.

Pure state.

An event comes by two ways, and either may be the first: on the room's channel, in order, and in the
answer to the change that made it. A room without members here is none of this worker's business;
who comes in again may still meet what was told to those who were in before. So the last version
that these were told of is known a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi_rooms.types import Room


class EventVersions:
    """Those of the rooms of one namespace."""

    def __init__(self) -> None:
        self._last: dict[Room, int] = {}
        self._first: dict[Room, int] = {}
        # The last that was told before the last member left: since this turn, and the one before.
        self._before: dict[Room, int] = {}
        self._long_before: dict[Room, int] = {}

    def __bool__(self) -> bool:
        """Whether anything is known of any room."""
        return bool(self._last or self._before or self._long_before)

    def last(self, room: Room) -> int:
        """The highest that handlers were told of; 0 for none."""
        last = self._last.get(room)
        return self._floor(room) if last is None else last

    def heard(self, room: Room, version: int) -> bool:
        """An event comes on the channel of a room: whether handlers are to be told of it now."""
        if version <= self.last(room):
            return False
        self._tell(room, version)
        return True

    def answered(self, room: Room, versions: Iterable[int]) -> set[int]:
        """Events are in an answer: of which of them handlers are to be told now.

        They come on the channel as well, and in their place among others', unless this worker is
        just about to subscribe to the room. Then what others did after them may be heard of before
        the answer.
        """
        first, floor = self._first.get(room), self._floor(room)
        told = set[int]()
        for version in versions:
            last = self._last.get(room)
            is_earlier = first is not None and version < first
            if version > floor and (last is None or version == last + 1 or is_earlier):
                self._tell(room, version)
                told.add(version)
        return told

    def compared(self, room: Room, version: int) -> None:
        """The room has this version: an event that named a higher one was forged."""
        for each in (self._last, self._first, self._before, self._long_before):
            if each.get(room, 0) > version:
                each[room] = version

    def left(self, room: Room) -> bool:
        """The last member has left a room. Whether anything of it is kept, for two `turn`s."""
        self._first.pop(room, None)
        last = self._last.pop(room, None)
        if last is None:
            return False
        self._before[room] = last
        return True

    def turn(self, is_kept: Callable[[Room], bool]) -> bool:
        """Some time is over: forget what is kept since the last turn but one, of most rooms.

        Returns whether any is left.
        """
        kept = {room: last for room, last in self._long_before.items() if is_kept(room)}
        self._long_before, self._before = kept | self._before, {}
        return bool(self._long_before)

    def forget(self) -> None:
        """Forget everything."""
        for each in (self._last, self._first, self._before, self._long_before):
            each.clear()

    def _floor(self, room: Room) -> int:
        return self._before.get(room) or self._long_before.get(room, 0)

    def _tell(self, room: Room, version: int) -> None:
        self._first[room] = min(version, self._first.get(room, version))
        self._last[room] = max(version, self._last.get(room, 0))
