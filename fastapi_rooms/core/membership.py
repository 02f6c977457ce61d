"""The two maps of a namespace on one worker: rooms → members, and sids → rooms.

A transition changes both maps at once and returns what changed, for the caller to announce.

A room is a dict from sid to member, so that a fan-out iterates over values without a lookup for
each. Both maps hold dicts where sets would do, because `dict.keys()` is a set that follows the dict
and cannot be written to.

A leave of very many counts at once, and is carried out part by part: whoever looks does not see
those any more whose part has yet to come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain, islice
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


class CrowdLeave(Generic[M]):
    """A leave of many that counts already, and is being carried out."""

    __slots__ = ("members", "rooms")

    def __init__(self, members: dict[Sid, M], rooms: tuple[Room, ...] | None) -> None:
        self.members = members
        """Those whose part has yet to come."""
        self.rooms = rooms
        """What they leave; `None` is everything."""

    def is_from(self, room: Room | None) -> bool:
        """Whether they leave that room, or the whole namespace."""
        return self.rooms is None or room in self.rooms


class Leaving(Generic[M]):
    """The leaves of many that are being carried out, and what there is to see meanwhile."""

    __slots__ = ("_members", "_rooms", "_sids", "leaves")

    def __init__(
        self,
        members: dict[Sid, M],
        rooms: dict[Room, dict[Sid, M]],
        sids: dict[Sid, dict[Room, None]],
    ) -> None:
        self._members = members
        self._rooms = rooms
        self._sids = sids
        self.leaves: dict[CrowdLeave[M], None] = {}
        """Hardly ever any."""

    def staying(self, room: Room | None) -> dict[Sid, M]:
        """The members of a room, or all, without those who are leaving it."""
        members = self._members if room is None else self._rooms.get(room, {})
        for leave in self.leaves:
            if not leave.is_from(room):
                continue
            if room is not None and leave.rooms is not None and room in members:
                members = {s: m for s, m in members.items() if s == room or s not in leave.members}
            elif members.keys() <= leave.members.keys():  # most often, and without a step for each
                members = {}
            else:
                members = {s: m for s, m in members.items() if s not in leave.members}
        return members

    def visible_sids(self, room: Room) -> AbstractSet[Sid] | None:
        """Who is in a room and not leaving it; `None` if nobody is."""
        return self.staying(room).keys() or None

    def visible_rooms(self, sid: Sid) -> AbstractSet[Room] | None:
        """The rooms of a member that it is not leaving; `None` if it is leaving them all."""
        rooms = self._sids.get(sid)
        if rooms is None:
            return None
        for leave in self.leaves:
            if sid in leave.members:
                if leave.rooms is None:
                    return None
                left = leave.rooms
                rooms = {room: None for room in rooms if room == sid or room not in left}
        return rooms.keys()


class Membership(Generic[M]):
    """Who is in which room on this worker. `M` is the caller's type of a member."""

    def __init__(self) -> None:
        self._members: dict[Sid, M] = {}
        self._rooms: dict[Room, dict[Sid, M]] = {}
        self._sids: dict[Sid, dict[Room, None]] = {}
        self._leaving = Leaving(self._members, self._rooms, self._sids)
        self._leaves = self._leaving.leaves
        self.version = 0
        """Incremented by every change: equal versions mean equal memberships."""
        self.rooms: Mapping[Room, AbstractSet[Sid]] = _RoomsView(self._rooms, self._leaving)
        self.sids: Mapping[Sid, AbstractSet[Room]] = _SidsView(self._sids, self._leaving)

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
        """Add a member to rooms. Rooms that it is in already are ignored.

        `settle` has to be called before, if it may be leaving one of them with a crowd.
        """
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
        for leave in list(self._leaves):
            leave.members.pop(sid, None)
            self._end_if_done(leave)
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

    # Leaves of very many.

    def begin_leave(self, members: dict[Sid, M], rooms: tuple[Room, ...] | None) -> CrowdLeave[M]:
        """Let many members leave some rooms, but not that of their sid; or everything (`None`).

        It counts from now on. `carry_out` is to be called for parts of them, as long as there are
        any in the `members` that it is given; `settle` does so for one.
        """
        self.version += 1
        leave = CrowdLeave(members, rooms)
        self._leaves[leave] = None
        self._end_if_done(leave)
        return leave

    def carry_out(self, leave: CrowdLeave[M], count: int) -> list[Departure]:
        """Remove the next of those who leave some rooms, and return what changed."""
        assert leave.rooms is not None
        part = dict(self.next_of(leave, count))
        return self.leave_all(part, leave.rooms)

    def next_of(self, leave: CrowdLeave[M], count: int) -> list[tuple[Sid, M]]:
        """Take the next out of a leave; the caller removes them. Those who have gone are not."""
        part = list(islice(leave.members.items(), count))
        for sid, _ in part:
            del leave.members[sid]
        self._end_if_done(leave)
        return part

    def settle(self, sid: Sid) -> list[Departure]:
        """Carry out what one member leaves with crowds, now."""
        departures = []
        for leave in list(self._leaves):
            if leave.rooms is not None and leave.members.pop(sid, None) is not None:
                departures += self.leave_all({sid: None}, leave.rooms)
                self._end_if_done(leave)
        return departures

    def _end_if_done(self, leave: CrowdLeave[M]) -> None:
        if not leave.members:
            self._leaves.pop(leave, None)

    def clear(self) -> None:
        self._leaves.clear()
        for sid in list(self._members):
            self.remove(sid)

    def resolve(self, target: Target) -> Collection[M]:
        """The members that `target` addresses, each once. May be a live view: do not keep it."""
        members = self.select(target.rooms)
        excluded = self.excluded(target)
        if not excluded:
            return members.values()
        return [member for sid, member in members.items() if sid not in excluded]

    def few(self, target: Target, limit: int) -> Collection[M] | None:
        """What `resolve` returns, or `None` if that is more than so many: it costs little then."""
        rooms = target.rooms
        if rooms is not None and len(rooms) == 1 and not (target.except_ or self._leaves):
            alone = self._rooms.get(rooms[0], {})  # what is nearly always asked for
            return alone.values() if len(alone) <= limit else None
        excluded = self.excluded(target)
        most = limit + len(excluded)
        if rooms is not None and len(rooms) > 1 and self._has_crowd(rooms, most):
            return None
        members = self.select(rooms)
        if len(members) > most:
            return None
        if not excluded:
            return members.values()
        found = [member for sid, member in members.items() if sid not in excluded]
        return found if len(found) <= limit else None

    def _has_crowd(self, rooms: tuple[Room, ...], most: int) -> bool:
        """Whether one of the rooms has more members; who is about to leave may be among them."""
        return not self._leaves and any(len(self._in(room)) > most for room in rooms)

    def select(self, rooms: tuple[Room, ...] | None) -> dict[Sid, M]:
        """The members of any of `rooms`, or all (`None`), by sid. May be the live dict itself."""
        if self._leaves:
            selected = [
                self._leaving.staying(room) for room in ((None,) if rooms is None else rooms)
            ]
            return selected[0] if len(selected) == 1 else _merged(selected)
        if rooms is None:
            return self._members
        if len(rooms) == 1:
            return self._rooms.get(rooms[0], {})
        return _merged(map(self._in, rooms))

    def excluded(self, target: Target) -> frozenset[Sid]:
        """The sids that `target` excludes."""
        if not target.except_:
            return _NO_SIDS
        found = self._leaving.staying if self._leaves else self._in
        return frozenset(chain.from_iterable(map(found, target.except_)))

    def _in(self, room: Room) -> dict[Sid, M]:
        return self._rooms.get(room, {})


def _merged(parts: Iterable[dict[Sid, M]]) -> dict[Sid, M]:
    """All members of several rooms, at no step of Python's for each."""
    merged: dict[Sid, M] = {}
    for part in parts:
        merged.update(part)
    return merged


class LiveView(Mapping[str, AbstractSet[str]]):
    """A read-only view of a map from names to sets of names, which follows its source.

    Args:
        source: the map.
        leaving: who is leaving, so that there is less to see than in the map.
    """

    __slots__ = ("_leaving", "_source")

    def __init__(self, source: Mapping[str, Mapping[str, Any]], leaving: Leaving[Any]) -> None:
        self._source = source
        self._leaving = leaving

    def _visible(self, name: str) -> AbstractSet[str] | None:
        """What there is to see of an entry while somebody leaves; `None` for nothing."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> AbstractSet[str]:
        if not self._leaving.leaves:
            return self._source[name].keys()
        names = self._visible(name)
        if names is None:
            raise KeyError(name)
        return names

    def __iter__(self) -> Iterator[str]:
        if not self._leaving.leaves:
            return iter(self._source)
        return iter([name for name in self._source if self._visible(name) is not None])

    def __len__(self) -> int:
        return len(self._source) if not self._leaving.leaves else sum(1 for _ in self)

    def __repr__(self) -> str:
        return repr({name: set(members) for name, members in self.items()})


class _RoomsView(LiveView):
    __slots__ = ()

    def _visible(self, name: str) -> AbstractSet[str] | None:
        return self._leaving.visible_sids(name)


class _SidsView(LiveView):
    __slots__ = ()

    def _visible(self, name: str) -> AbstractSet[str] | None:
        return self._leaving.visible_rooms(name)
