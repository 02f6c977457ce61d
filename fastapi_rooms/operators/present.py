"""Who is present in a room, as whoever asks is told: pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi_rooms.core.presence import Entry
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Room, Sid

MAX_PAGES = 20_000
"""So many of a room are believed."""


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
        self._version = 0
        self._pages = 0
        self._sids: dict[str, dict[Sid, None]] = {}

    def add(self, version: int, users: Iterable[str], entries: Iterable[Entry]) -> None:
        """Add a page, which may name somebody again. The version of the first one counts.

        Raises `AdapterUnavailable` if there is no end of them.
        """
        if self._pages == 0:
            self._version = version
        if self._pages == MAX_PAGES:
            raise AdapterUnavailable(f"There is no end of who is present in {self._room!r}.")
        self._pages += 1
        for user in users:
            self._sids.setdefault(user, {})
        for entry in entries:
            self._sids.setdefault(entry.user, {})[entry.sid] = None

    @property
    def present(self) -> Present:
        """Who is present, by the pages so far."""
        users = (PresentUser(user, tuple(sids)) for user, sids in self._sids.items())
        return Present(self._room, self._version, tuple(users))
