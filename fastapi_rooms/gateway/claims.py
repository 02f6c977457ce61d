"""Whose the rooms of a socket are, while its endpoint changes: an endpoint's, or others'."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from fastapi_rooms.types import Room


class Claims:
    """Those on the rooms of one socket.

    A room that an endpoint has joined is left unless the next one joins it, too. One that others
    had the socket join stays until it is left, as at a worker without an edge; and so does one that
    both have, where others were the last.
    """

    __slots__ = ("_others", "_own", "_unclaimed")

    def __init__(self) -> None:
        self._own: set[Room] = set()  # its endpoint is joining or leaving them now
        self._unclaimed: set[Room] = set()
        self._others: dict[Room, None] = {}

    @contextmanager
    def at_work(self, rooms: Collection[Room]) -> Iterator[None]:
        """The endpoint joins rooms, or leaves them, as long as this lasts."""
        self._own.update(rooms)
        try:
            yield
        finally:
            self._own.difference_update(rooms)

    def knows(self, room: Room) -> bool:
        """Whether the endpoint hears itself what becomes of a room: by its own call."""
        return room in self._own

    def joined(self, rooms: Iterable[Room]) -> None:
        """The endpoint has joined rooms."""
        for room in rooms:
            self.left(room)  # as far as anybody had it before

    def by_others(self, rooms: Iterable[Room]) -> None:
        """Others had the socket join rooms, in which it may have been already."""
        for room in rooms:
            self._others[room] = None
            self._unclaimed.discard(room)

    def left(self, room: Room) -> None:
        """The socket has left a room."""
        self._unclaimed.discard(room)
        self._others.pop(room, None)

    def begin_attempt(self, rooms: Iterable[Room]) -> None:
        """Another endpoint begins, of a socket in these rooms: it has to claim the earlier's."""
        self._unclaimed = {room for room in rooms if room not in self._others}

    @property
    def unclaimed(self) -> frozenset[Room]:
        """Rooms of the endpoint before, which this one has not joined, and is not joining."""
        return frozenset(self._unclaimed - self._own)

    @property
    def others(self) -> AbstractSet[Room]:
        """Rooms that others had it join, since an endpoint did so, in that order."""
        return self._others.keys()
