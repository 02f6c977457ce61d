"""How far a client has got in the rooms that remember, and what it has received and not handled.

There are two positions for each room. That of the last message *received* is where the next
connection goes on: what waits here is not to come again. That of the last message *handled* is
where the next process goes on: what waits here dies with this one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fastapi_rooms.types import Room

Item = TypeVar("Item")

MAX_ROOMS = 10_000
"""Positions that are kept, those that were set last. A server cannot make a client keep more."""

MAX_KNOWN = 1_000
"""Messages that are known again if they come twice."""


@dataclass(slots=True)
class _Entry(Generic[Item]):
    item: Item
    moves: dict[Room, str | None] = field(default_factory=dict)
    """The positions that hold once it is handled; `None` for a room that has none any more."""


class Resumption(Generic[Item]):
    """What one client keeps from one connection to the next.

    Args:
        positions: what an earlier process had handled.
    """

    def __init__(self, positions: Mapping[Room, str] | None = None) -> None:
        self.token: str | None = None
        """By which the server knows the client again: that of the very first hello."""
        self._received: dict[Room, str] = dict(positions or {})
        self._handled: dict[Room, str] = dict(positions or {})
        self._known: dict[tuple[Room, str], None] = {}
        self._waiting: deque[_Entry[Item]] = deque()
        self._current: _Entry[Item] | None = None

    def __len__(self) -> int:
        """How many items wait to be taken."""
        return len(self._waiting)

    @property
    def received(self) -> dict[Room, str]:
        """Where the next connection goes on; the room that moved last is last."""
        return dict(self._received)

    @property
    def handled(self) -> dict[Room, str]:
        """Where the next process goes on."""
        return dict(self._handled)

    # What comes.

    def joined(self, room: Room, recovered: bool | None) -> bool | None:
        """The client is in a room. Returns what to tell of that; `None`: nothing, it is new there.

        False is told, too, of a client that had a position and was taken for a new one.
        """
        was_there = room in self._received
        if recovered is not True:
            self.left(room)
        return None if recovered is None and not was_there else recovered is True

    def moved(self, room: Room, position: str) -> None:
        """What lies before a position was not for this client."""
        _keep(self._received, room, position)
        self._move(room, position)

    def left(self, room: Room) -> None:
        """The position in a room holds no more; what was said there may be shown once more."""
        self._received.pop(room, None)
        self._known = {known: None for known in self._known if known[0] != room}
        self._move(room, None)

    def put(self, item: Item, room: Room | None = None, position: str | None = None) -> bool:
        """Have something wait to be taken; returns false for a message that is there already."""
        entry = _Entry(item)
        if room is not None and position is not None:
            if (room, position) in self._known:
                return False
            self._known[room, position] = None
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            _keep(self._received, room, position)
            entry.moves[room] = position
        self._waiting.append(entry)
        return True

    # What is done with it.

    def take(self) -> Item | None:
        """The next item. Whoever asks for it has handled the one before."""
        self.finish()
        if not self._waiting:
            return None
        self._current = self._waiting.popleft()
        return self._current.item

    def finish(self) -> None:
        """What was taken last is handled."""
        if self._current is not None:
            for room, position in self._current.moves.items():
                _apply(self._handled, room, position)
            self._current = None

    def _move(self, room: Room, position: str | None) -> None:
        """Set a position once everything is handled that came before."""
        last = self._waiting[-1] if self._waiting else self._current
        if last is None:
            _apply(self._handled, room, position)
        else:
            _keep(last.moves, room, position)


def _apply(positions: dict[Room, str], room: Room, position: str | None) -> None:
    if position is None:
        positions.pop(room, None)
    else:
        _keep(positions, room, position)


Position = TypeVar("Position", str, str | None)


def _keep(positions: dict[Room, Position], room: Room, position: Position) -> None:
    positions.pop(room, None)
    positions[room] = position
    if len(positions) > MAX_ROOMS:
        del positions[next(iter(positions))]
