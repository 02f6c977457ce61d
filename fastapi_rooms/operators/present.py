"""Who is present in a room, as whoever asks is told: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi_rooms.core.presence import Entry
from fastapi_rooms.types import Room, Sid


@dataclass(frozen=True, slots=True)
class PresentUser:
    """Somebody who is present in a room."""

    user: str
    sids: tuple[Sid, ...]
    """Their sockets there, on whichever worker; none while they may be back at any moment."""


@dataclass(frozen=True, slots=True)
class Present:
    """Who is present in a room."""

    room: Room
    version: int
    """All events up to this are in it: `PresenceEvent.version` tells which come after it. 0 if
    nobody is present."""
    users: tuple[PresentUser, ...]
    """Everybody, in no order."""


class PresentPages:
    """Pages of who is present in a room, put together."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._version: int | None = None
        self._sids: dict[str, dict[Sid, None]] = {}

    def add(self, version: int, users: Iterable[str], entries: Iterable[Entry]) -> None:
        """Add a page, which may name somebody again. The version of the first one counts."""
        if self._version is None:
            self._version = version
        for user in users:
            self._sids.setdefault(user, {})
        for entry in entries:
            self._sids.setdefault(entry.user, {})[entry.sid] = None

    @property
    def present(self) -> Present:
        """Who is present, by the pages so far."""
        users = (PresentUser(user, tuple(sids)) for user, sids in self._sids.items())
        return Present(self._room, self._version or 0, tuple(users))
