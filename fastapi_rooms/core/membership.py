"""The two maps of a namespace on one worker: rooms → members, and sids → rooms.

A transition changes both maps at once and returns what changed, for the caller to announce.

A room is a dict from sid to member, so that a fan-out iterates over values without a lookup for
each. Both maps hold dicts where sets would do, because `dict.keys()` is a set that follows the dict
and cannot be written to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi_rooms.core.target import Target
from fastapi_rooms.types import Room, Sid

M = TypeVar("M")

_NO_SIDS: frozenset[Sid] = frozenset()


class Joined(NamedTuple):
    """What a join changed: the rooms that were joined, and those of them that it created."""

    rooms: tuple[Room, ...]
    created: tuple[Room, ...]


class Left(NamedTuple):
    """What a leave changed: the rooms that were left, and those of them that it deleted."""

    rooms: tuple[Room, ...]
    deleted: tuple[Room, ...]


class Departure(NamedTuple):
    """What a leave of many changed in one room: who left it, and whether that deleted it."""

    room: Room
    sids: list[Sid]
    deleted: bool


class Membership(Generic[M]):
    """Who is in which room on this worker. `M` is the caller's type of a member."""

    def __init__(self) -> None:
        self._members: dict[Sid, M] = {}
        self._rooms: dict[Room, dict[Sid, M]] = {}
        self._sids: dict[Sid, dict[Room, None]] = {}
        self.version = 0
        """Incremented by every change: equal versions mean equal memberships."""
        self.rooms: Mapping[Room, AbstractSet[Sid]] = LiveView(self._rooms)
        self.sids: Mapping[Sid, AbstractSet[Room]] = LiveView(self._sids)

    def __len__(self) -> int:
        return len(self._members)

    def get(self, sid: Sid) -> M | None:
        return self._members.get(sid)

    def members(self) -> Collection[M]:
        """All members: a live view."""
        return self._members.values()

    def add(self, sid: Sid, member: M) -> None:
        """Add a member, in no room yet."""
        self.version += 1
        self._members[sid] = member
        self._sids[sid] = {}

    def join(self, sid: Sid, rooms: Iterable[Room]) -> Joined:
        """Add a member to rooms. Rooms that it is in already are ignored."""
        joined = self._sids[sid]
        member = self._members[sid]
        new = tuple(room for room in dict.fromkeys(rooms) if room not in joined)
        created = tuple(room for room in new if room not in self._rooms)
        self.version += 1
        for room in new:
            joined[room] = None
            self._rooms.setdefault(room, {})[sid] = member
        return Joined(new, created)

    def leave(self, sid: Sid, rooms: Iterable[Room]) -> Left:
        """Remove a member from rooms. A room without members is deleted at once."""
        joined = self._sids.get(sid, {})
        left = [room for room in dict.fromkeys(rooms) if room in joined]
        for room in left:
            del joined[room]
        return self._remove_from(sid, left)

    def leave_all(self, sids: Mapping[Sid, object], rooms: Iterable[Room]) -> list[Departure]:
        """Remove many members from rooms, each as by `leave`, but not from the room of its sid.

        Returns what changed by rooms. It costs as much as there are rooms and departures: of the
        members of a room and `sids`, the fewer are gone through.
        """
        departures = []
        for room in rooms:
            members = self._rooms.get(room)
            if members is None:
                continue
            some, others = (members, sids) if len(members) < len(sids) else (sids, members)
            left = [sid for sid in some if sid in others and sid != room]
            for sid in left:
                del members[sid]
                del self._sids[sid][room]
            if not members:
                del self._rooms[room]
            if left:
                departures.append(Departure(room, left, deleted=not members))
        self.version += 1
        return departures

    def remove(self, sid: Sid) -> Left:
        """Remove a member, also from all its rooms. Does nothing for an unknown sid."""
        self._members.pop(sid, None)
        return self._remove_from(sid, self._sids.pop(sid, ()))

    def _remove_from(self, sid: Sid, rooms: Iterable[Room]) -> Left:
        """Remove a member from rooms that it is known to be in."""
        self.version += 1
        deleted = []
        for room in rooms:
            members = self._rooms[room]
            del members[sid]
            if not members:
                del self._rooms[room]
                deleted.append(room)
        return Left(tuple(rooms), tuple(deleted))

    def clear(self) -> None:
        for sid in list(self._members):
            self.remove(sid)

    def resolve(self, target: Target) -> Collection[M]:
        """The members that `target` addresses, each once. May be a live view: do not keep it."""
        members = self.select(target.rooms)
        excluded = self.excluded(target)
        if not excluded:
            return members.values()
        return [member for sid, member in members.items() if sid not in excluded]

    def select(self, rooms: tuple[Room, ...] | None) -> dict[Sid, M]:
        """The members of any of `rooms`, or all (`None`), by sid. May be the live dict itself."""
        if rooms is None:
            return self._members
        if len(rooms) == 1:
            return self._rooms.get(rooms[0], {})
        return {sid: m for room in rooms for sid, m in self._rooms.get(room, {}).items()}

    def excluded(self, target: Target) -> frozenset[Sid]:
        """The sids that `target` excludes."""
        if not target.except_:
            return _NO_SIDS
        return frozenset(sid for room in target.except_ for sid in self._rooms.get(room, ()))


class LiveView(Mapping[str, AbstractSet[str]]):
    """A read-only view of a map from names to sets of names, which follows its source."""

    __slots__ = ("_source",)

    def __init__(self, source: Mapping[str, Mapping[str, Any]]) -> None:
        self._source = source

    def __getitem__(self, name: str) -> AbstractSet[str]:
        return self._source[name].keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)

    def __repr__(self) -> str:
        return repr({name: set(members) for name, members in self._source.items()})
