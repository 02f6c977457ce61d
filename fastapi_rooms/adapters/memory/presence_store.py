"""The rooms of a bus of which is known who is present: pure state, told the time by its owner.

The time is in seconds, of a clock that never goes back. It needs no bound of its own: a room takes
memory while sockets are in it, for the grace of the last one, and for an hour more where a worker
was declared dead.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypedDict, TypeVar

from fastapi_rooms.adapters.presence import Beat, Changed, Entry, Lease, Page, Sums, Terms
from fastapi_rooms.core.presence import Leases, RoomPresence
from fastapi_rooms.types import Sid

_K = TypeVar("_K", bound=Hashable)

MAX_OVERDUE = 100
"""How many leases that are to be reaped are told at once."""


class PresenceStore:
    """All of a bus's rooms, and the leases of its workers."""

    def __init__(self) -> None:
        self._rooms: dict[bytes, RoomPresence] = {}
        self._leases = Leases()
        self._rooms_of_user: dict[tuple[bytes, str], set[bytes]] = {}
        self._rooms_of: dict[Lease, set[bytes]] = {}

    def __len__(self) -> int:
        """How much there is, of whatever kind."""
        return len(self._rooms) + len(self._leases) + len(self._rooms_of_user) + len(self._rooms_of)

    # Leases.

    def beat(self, lease: Lease, ttl: float, now: float, *, reaps: bool) -> Beat:
        """Renew a lease, and declare others dead."""
        at, lasts = _ms(now), max(_ms(ttl), 1) if ttl else 0
        is_late = self._leases.is_late(lease, at, lasts)
        own = self._leases.beat(lease, at, lasts)
        overdue = self._leases.overdue(at if reaps and not is_late else 0, MAX_OVERDUE)
        return Beat(own, tuple(overdue), is_late)

    def rooms_of(self, lease: Lease) -> list[bytes]:
        """The rooms that a worker may have sockets in."""
        return [*self._rooms_of.get(lease, ())]

    def bury(self, lease: Lease) -> None:
        """Forget a lease, and its rooms."""
        self._rooms_of.pop(lease, None)
        self._leases.bury(lease)

    # Rooms.

    def change(
        self,
        name: bytes,
        lease: Lease,
        terms: Terms,
        now: float,
        *,
        enter: Iterable[Entry] = (),
        leave: Iterable[Sid] = (),
        quiet: bool = False,
    ) -> Changed:
        """Have sockets leave and enter."""
        entries, sids = [*enter], [*leave]
        changed = self._room(name).change(
            lease,
            _ms(now),
            grace=_ms(terms.grace),
            repair=_ms(terms.repair),
            enter=entries,
            leave=sids,
            quiet=quiet,
            **_count(terms, now),
        )
        if (entries or not sids) and not changed.fenced:
            self._rooms_of.setdefault(lease, set()).add(name)
            for user in {entry.user for entry in entries}:
                self._rooms_of_user.setdefault((_namespace_of(name), user), set()).add(name)
        is_left = changed.next_leave is None and not self._rooms[name].entries_of(lease.node)
        if is_left and not changed.fenced:
            _discard(self._rooms_of, lease, name)
        return self._settle(name, changed, now)

    def sync(
        self,
        name: bytes,
        lease: Lease,
        terms: Terms,
        now: float,
        entries: Iterable[Entry],
        *,
        quiet: bool,
    ) -> Changed:
        """Put in what is missing, and take out what is too much."""
        wanted = [*entries]
        sids = {entry.sid for entry in wanted}
        found = self._rooms[name].entries_of(lease.node) if name in self._rooms else ()
        surplus = [entry.sid for entry in found if entry.sid not in sids]
        return self.change(name, lease, terms, now, enter=wanted, leave=surplus, quiet=quiet)

    def reap(self, name: bytes, lease: Lease, terms: Terms, now: float) -> Changed:
        """Take the sockets of a dead worker out."""
        room = self._room(name)
        sids = [entry.sid for entry in room.entries_of(lease.node)]
        changed = room.reap(
            lease,
            _ms(now),
            grace=_ms(terms.grace),
            repair=_ms(terms.repair),
            leave=sids,
            **_count(terms, now),
        )
        if changed.fenced or changed.next_leave is None:
            _discard(self._rooms_of, lease, name)
        return self._settle(name, changed, now)

    def sweep(self, name: bytes, terms: Terms, now: float) -> Changed:
        """Have those leave whose grace is over."""
        changed = self._room(name).sweep(_ms(now), **_count(terms, now))
        return self._settle(name, changed, now)

    def sums(self, name: bytes, lease: Lease) -> Sums:
        """What a room has of a worker."""
        return self._look(name).sums(lease.node)

    # Questions.

    def present(self, name: bytes) -> Page:
        """All who are present, as one page."""
        room = self._look(name)
        return Page(room.version, [*room.users], [*room.entries], 0)

    def count(self, name: bytes) -> int:
        """How many users."""
        return self._look(name).count

    def is_present(self, name: bytes, user: str) -> bool:
        """Whether a user is present."""
        return self._look(name).is_present(user)

    def rooms_of_user(self, namespace: str, user: str) -> list[bytes]:
        """The rooms in which a user is present."""
        return [*self._rooms_of_user.get((namespace.encode(), user), ())]

    # What is over.

    def names(self) -> list[bytes]:
        """All rooms, to be swept part by part."""
        return [*self._rooms]

    def forget(self, names: Iterable[bytes], now: float) -> None:
        """Forget rooms whose time is over."""
        for name in names:
            if name in self._rooms:
                self._forget(name, now)

    def _look(self, name: bytes) -> RoomPresence:
        """A room, to be read."""
        return self._rooms.get(name) or RoomPresence()

    def _room(self, name: bytes) -> RoomPresence:
        """A room, to be changed; `_settle` follows."""
        return self._rooms.setdefault(name, RoomPresence())

    def _settle(self, name: bytes, changed: Changed, now: float) -> Changed:
        """Keep what leads to a room in step with it, and forget it when there is nothing in it."""
        room = self._rooms[name]
        for event in changed.events:
            if event.kind == "leave" and not room.is_present(event.user):
                _discard(self._rooms_of_user, (_namespace_of(name), event.user), name)
        self._forget(name, now)
        return changed

    def _forget(self, name: bytes, now: float) -> None:
        if 0 <= self._rooms[name].forgotten_at() <= _ms(now):
            del self._rooms[name]


def _discard(sets: dict[_K, set[bytes]], key: _K, name: bytes) -> None:
    """Remove a room from a set, and a set that is empty."""
    rooms = sets.get(key)
    if rooms is not None:
        rooms.discard(name)
        if not rooms:
            del sets[key]


def _namespace_of(name: bytes) -> bytes:
    return name.partition(b"#")[0]


def _ms(seconds: float) -> int:
    return max(round(seconds * 1000), 0)


class _Count(TypedDict):
    start: int
    known: int


def _count(terms: Terms, now: float) -> _Count:
    """Where a count begins, above every earlier one of the room; and below what one has fallen."""
    start = int(now * 1_000_000)
    return {"start": max(terms.floor, start), "known": terms.known(start)}
