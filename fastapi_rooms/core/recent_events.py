"""Which events of rooms handlers were told of last: pure state.

A number that comes again is a repetition, as events come by two ways; unless another event has it.
Then the carrier has lost its last writes, and gives their numbers to others, until a worker that
knows of the lost ones has something to do there.
"""

from __future__ import annotations

from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.types import Room

KEPT = 16
"""How many events of a room are remembered, by what takes some hundred bytes for each."""


class RecentEvents:
    """Those of the rooms of one namespace."""

    def __init__(self) -> None:
        self._rooms: dict[Room, dict[int, int]] = {}  # of each version a hash of the rest

    def __len__(self) -> int:
        """Of how many rooms anything is known."""
        return len(self._rooms)

    def told(self, room: Room, event: UserEvent) -> None:
        """Handlers are told of an event."""
        events = self._rooms.setdefault(room, {})
        events.pop(event.version, None)  # to be the newest
        events[event.version] = hash(event)
        if len(events) > KEPT:
            del events[next(iter(events))]

    def is_another(self, room: Room, event: UserEvent) -> bool:
        """Whether handlers were told of a different event with this number."""
        return self._rooms.get(room, {}).get(event.version, hash(event)) != hash(event)

    def left(self, room: Room) -> None:
        """The last member has left a room."""
        self._rooms.pop(room, None)

    def forget(self) -> None:
        """Forget everything."""
        self._rooms.clear()
