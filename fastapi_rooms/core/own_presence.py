"""A worker's own sockets in a room that knows who is present, and what the carrier is to be told.

Pure state.

One change is under way at a time. What happens meanwhile is in the next one, and only as it is by
then: who came and went in between is not mentioned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastapi_rooms.core.presence import Entry, checksum_of
from fastapi_rooms.types import Sid

MAX_CHANGES = 500
"""Sockets in one change: of more, the rest is in the next."""

BEHIND = 30.0
"""Seconds after which a carrier that is still behind what was heard of a room is believed."""

_MODULUS = 2**32


class Change(NamedTuple):
    """What the carrier has to be told."""

    enter: Sequence[Entry]
    leave: Sequence[Sid]

    @property
    def weight(self) -> int:
        """How many sockets it is about."""
        return len(self.enter) + len(self.leave)


class OwnRoom:
    """One room, as long as this worker has anything to do with it."""

    __slots__ = (
        *("_behind_since", "_checksum", "_entries", "_told", "_untold"),
        *("fences", "is_busy", "is_partial", "needs_sync", "needs_touch", "synced", "version"),
    )

    def __init__(self) -> None:
        self._entries: dict[Sid, Entry] = {}
        self._checksum = 0
        self._untold: dict[Sid, bool] = {}  # whether the carrier may know it
        self._told: list[Sid] = []
        self._behind_since: float | None = None
        self.fences = 0
        """How often a change was refused since the last that was not, as a lease is not valid."""
        self.is_busy = False
        """Whether a change is under way."""
        self.is_partial = False
        """Whether the last change that was begun has left some for the next."""
        self.needs_sync = False
        """Whether the carrier may have anything but this."""
        self.needs_touch = False
        """Whether the carrier is to look at it once more, as somebody's grace is over."""
        self.synced = 0.0
        """When the carrier was last told of it as a whole, by its owner's clock."""
        self.version = 0
        """The highest version that the carrier has answered."""

    def __bool__(self) -> bool:
        """Whether there is anything to be known of it."""
        return bool(
            self._entries or self._untold or self.is_busy or self.needs_sync or self.needs_touch
        )

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._entries

    def holds(self, entry: Entry) -> bool:
        """Whether a socket is in it, as this user."""
        return self._entries.get(entry.sid) == entry

    @property
    def has_sockets(self) -> bool:
        """Whether any socket is in it."""
        return bool(self._entries)

    @property
    def entries(self) -> list[Entry]:
        """The sockets that are in it."""
        return [*self._entries.values()]

    @property
    def sums(self) -> tuple[int, int]:
        """How many these are, and their checksum: what the carrier should have, too."""
        return len(self._entries), self._checksum

    @property
    def is_told(self) -> bool:
        """Whether the carrier has been told everything."""
        return not (self._untold or self.is_busy)

    @property
    def is_due(self) -> bool:
        """Whether something is to be begun."""
        return not self.is_busy and bool(self._untold or self.needs_sync or self.needs_touch)

    def enter(self, entry: Entry) -> None:
        """A socket enters, as a user; one that is in is that user's from now on."""
        was_in = self._remove(entry.sid)
        self._entries[entry.sid] = entry
        self._checksum = (self._checksum + checksum_of(entry)) % _MODULUS
        self._untold.setdefault(entry.sid, was_in or self.is_busy)

    def leave(self, sid: Sid) -> None:
        """A socket leaves."""
        if not self._remove(sid):
            return
        if self._untold.get(sid, True):
            self._untold[sid] = True
        else:
            del self._untold[sid]

    @property
    def has_news(self) -> bool:
        """Whether there are users none of whose sockets the carrier has been told of.

        Their joins are still to be told: they go before a sync, which tells nothing.
        """
        return bool(self._untold) and bool(self._news())

    @property
    def is_to_be_synced(self) -> bool:
        """Whether the carrier is to be told of it as a whole, and of nothing before that."""
        return self.needs_sync and not self.has_news

    def begin_change(self, *, only_news: bool = False) -> Change:
        """The carrier is being told; `succeed` or `fail` is to follow."""
        self.is_busy, self.needs_touch = True, False
        self._told = (self._news() if only_news else list(self._untold))[:MAX_CHANGES]
        for sid in self._told:
            del self._untold[sid]
        self.is_partial = bool(self._untold)
        entries = self._entries
        return Change(
            [entries[sid] for sid in self._told if sid in entries],
            [sid for sid in self._told if sid not in entries],
        )

    def begin_sync(self) -> list[Entry]:
        """The carrier is being told of all; `succeed` or `fail` is to follow."""
        self.is_busy, self.is_partial = True, False
        self.needs_sync, self.needs_touch = False, False
        self._told = list(self._untold)
        self._untold.clear()
        return self.entries

    def succeed(self, version: int, *, is_whole: bool = True) -> None:
        """The carrier has been told, and has all that it should, or has lost some of it.

        Then a room without sockets is to be put right at once: it would be forgotten here. Others
        are compared now and then.
        """
        self.needs_sync |= not (is_whole or self._entries)
        self.is_busy, self.fences = False, 0
        self._told = []
        self.version = max(self.version, version)

    def fail(self, *, is_sync: bool) -> None:
        """The carrier may not have been told: it is to be told again."""
        self.is_busy, self.needs_touch = False, True
        self.needs_sync |= is_sync
        self._untold = dict.fromkeys(self._told, True) | self._untold
        self._told = []

    def is_behind(self, heard: int, version: int, now: float) -> bool:
        """Whether the carrier has not come to what was heard before it was asked: that is forged.

        One that has just lost its last writes is behind, too, until it has been looked at. So it is
        found out at the second look.
        """
        if not 0 < version < heard:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= BEHIND:
            self._behind_since = None
            return True
        return False

    def _news(self) -> list[Sid]:
        entries, untold = self._entries, self._untold
        known = {user for sid, user in entries.values() if sid not in untold}
        return [sid for sid in untold if sid in entries and entries[sid].user not in known]

    def _remove(self, sid: Sid) -> bool:
        entry = self._entries.pop(sid, None)
        if entry is None:
            return False
        self._checksum = (self._checksum - checksum_of(entry)) % _MODULUS
        return True
