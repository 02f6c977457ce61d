"""The two maps of a namespace on one worker: rooms → members, and sids → rooms.

Strategy: nothing here waits, knows a socket or sends anything. A transition changes both maps at
once and returns what became of it, for the caller to announce. Inside, a room is a dict from sid
to member, so that a fan-out to one room walks values and looks nothing up; and both maps hold dicts
where sets would do, as the keys of a dict are a live set that nobody can write to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi_rooms.core.target import Target
from fastapi_rooms.types import Room, Sid

M = TypeVar("M")

_NOBODY: frozenset[Sid] = frozenset()


class Joined(NamedTuple):
    """What a join changed: the rooms newly joined, and those of them that did not exist before."""

    rooms: tuple[Room, ...]
    created: tuple[Room, ...]


class Left(NamedTuple):
    """What leaving changed: the rooms left, and those of them that nobody is in any more."""

    rooms: tuple[Room, ...]
    deleted: tuple[Room, ...]


class Membership(Generic[M]):
    """Who is in which room, here. `M` is whatever a member is to the caller."""

    def __init__(self) -> None:
        self._members: dict[Sid, M] = {}
        self._rooms: dict[Room, dict[Sid, M]] = {}
        self._sids: dict[Sid, dict[Room, None]] = {}
        self.version = 0
        """Rises with every change: while it is the same, so is who is where."""
        self.rooms: Mapping[Room, AbstractSet[Sid]] = LiveView(self._rooms)
        self.sids: Mapping[Sid, AbstractSet[Room]] = LiveView(self._sids)

    def __len__(self) -> int:
        return len(self._members)

    def get(self, sid: Sid) -> M | None:
        """The member of that sid."""
        return self._members.get(sid)

    def members(self) -> Collection[M]:
        """Every member, whatever its rooms."""
        return self._members.values()

    def add(self, sid: Sid, member: M) -> None:
        """Bring in a member, which is in no room yet."""
        self.version += 1
        self._members[sid] = member
        self._sids[sid] = {}

    def join(self, sid: Sid, rooms: Iterable[Room]) -> Joined:
        """Put a member into rooms; those it is in already change nothing."""
        mine = self._sids[sid]
        member = self._members[sid]
        new = tuple(room for room in dict.fromkeys(rooms) if room not in mine)
        created = tuple(room for room in new if room not in self._rooms)
        self.version += 1
        for room in new:
            mine[room] = None
            self._rooms.setdefault(room, {})[sid] = member
        return Joined(new, created)

    def leave(self, sid: Sid, rooms: Iterable[Room]) -> Left:
        """Take a member out of rooms; a room that becomes empty is gone at once."""
        mine = self._sids.get(sid, {})
        left = [room for room in dict.fromkeys(rooms) if room in mine]
        for room in left:
            del mine[room]
        return self._left(sid, left)

    def remove(self, sid: Sid) -> Left:
        """Take a member out of every room and forget it; harmless for one that is gone."""
        self._members.pop(sid, None)
        return self._left(sid, self._sids.pop(sid, ()))

    def _left(self, sid: Sid, rooms: Iterable[Room]) -> Left:
        """Take a member out of rooms that it is in."""
        self.version += 1
        deleted = []
        for room in rooms:
            others = self._rooms[room]
            del others[sid]
            if not others:
                del self._rooms[room]
                deleted.append(room)
        return Left(tuple(rooms), tuple(deleted))

    def clear(self) -> None:
        """Forget everyone."""
        for sid in list(self._members):
            self.remove(sid)

    def resolve(self, target: Target) -> Collection[M]:
        """The members that `target` addresses, each once. A live view: not to be held on to."""
        members = self.select(target.rooms)
        excluded = self.excluded(target)
        if not excluded:
            return members.values()
        return [member for sid, member in members.items() if sid not in excluded]

    def select(self, rooms: tuple[Room, ...] | None) -> dict[Sid, M]:
        """The members in any of `rooms`, or everyone, by sid: a live view, as it may be."""
        if rooms is None:
            return self._members
        if len(rooms) == 1:
            return self._rooms.get(rooms[0], {})
        return {sid: m for room in rooms for sid, m in self._rooms.get(room, {}).items()}

    def excluded(self, target: Target) -> frozenset[Sid]:
        """The sids that `target` leaves out."""
        if not target.except_:
            return _NOBODY
        return frozenset(sid for room in target.except_ for sid in self._rooms.get(room, ()))


class LiveView(Mapping[str, AbstractSet[str]]):
    """A map of names to sets of names that follows its source and cannot be written to."""

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
