"""A socket that a client of an edge has there, in one namespace, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from fastapi_rooms.core.patterns import Patterns
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.gateway.claims import Claims
from fastapi_rooms.gateway.framing import EdgeConnection
from fastapi_rooms.namespace import Namespace
from fastapi_rooms.types import Room
from fastapi_rooms.worker.events import Gap
from fastapi_rooms.worker.own_joins import OwnJoins
from fastapi_rooms.worker.resume import Joined
from fastapi_rooms.worker.socket import Socket

if TYPE_CHECKING:
    from fastapi_rooms.gateway.sockets import EdgeSockets

GRACE = 10.0
"""Seconds that the rooms of an earlier endpoint are kept for the next to join them again."""

TOLD_AT_ONCE = 1000
"""Rooms in one frame, so that none is too long."""

_owners: WeakKeyDictionary[Socket, EdgeSocket] = WeakKeyDictionary()
"""Which sockets of this process are those of an edge's clients: for the handlers of events."""


class EdgeSocket:
    """A socket, in one namespace."""

    def __init__(self, owner: EdgeSockets, namespace: Namespace, block: EdgeConnection) -> None:
        self.owner = owner
        self.namespace = namespace
        self.block = block
        self.socket = block.socket
        self.here = namespace._here
        self.claims = Claims()
        """Whose its rooms are."""
        self.is_entered = True
        """Whether its present endpoint has entered: that is told of what happens to it."""
        self.grace: asyncio.TimerHandle | None = None
        self.joining = asyncio.Lock()
        """Held by a join of rooms with a history: a second one of the same would double them."""
        self.own_joins = OwnJoins()
        """Those that its endpoint has asked for."""
        self.users: Patterns[str] = Patterns()
        """Who it is in rooms that know who is present, as its endpoint says."""
        self._told: dict[Room, str | None] = {}
        self._recovered: dict[Room, bool | None] = {}

    async def join(
        self, rooms: tuple[Room, ...], users: Patterns[str], since: str | None, recent: int | None
    ) -> dict[str, Any]:
        """Its endpoint has it join rooms. Gives what that is told."""
        self.users = users.over(self.users)
        before = self.claims.others & set(rooms)
        began = self.own_joins.begin(rooms)
        try:
            self.check_known(rooms, users, recoverable=(since, recent) != (None, None))
            with self.claims.at_work(rooms):
                keeps = any(map(self.here.recovery.keeps, rooms))
                async with self.joining if keeps else nullcontext():
                    await self.renew_users(rooms)
                    wanted = self.own_joins.not_left(rooms, began)
                    joined = await self._join(wanted, since, recent)
        except Exception:
            self.not_joined(rooms, before)
            raise
        finally:
            self.own_joins.end(rooms)
        left = [room for room in rooms if room not in self.socket.rooms]
        return asdict(joined) | ({"left": left} if left else {})

    async def _join(self, rooms: tuple[Room, ...], since: str | None, recent: int | None) -> Joined:
        if self.socket.rooms >= set(rooms):  # it is in still, and has missed nothing
            joined = await self.socket.join(*rooms)
            joined = self.joined_before(rooms, joined, since=since)
        else:
            joined = await self.socket.join(*rooms, since=since, recent=recent)
            self.joined(rooms, joined)
        self.claims.joined(rooms)
        return joined

    def joined(self, rooms: tuple[Room, ...], joined: Joined) -> None:
        """It has joined; whether what it had missed is there is known to later endpoints, too."""
        self._recovered |= dict.fromkeys(rooms, joined.recovered)

    def lost(self, rooms: Iterable[Room]) -> None:
        """Messages in some of its rooms are lost for good: its next endpoint is told."""
        self._recovered |= dict.fromkeys(rooms, False)

    def check_known(
        self, rooms: tuple[Room, ...], users: Patterns[str], *, recoverable: bool
    ) -> None:
        """Its backend has declared what it asks for here, and that was learnt, if it could be.

        Raises `AdapterUnavailable` if it was not: what is asked for must not be done by halves.
        """
        recovery, presences = self.here.recovery, self.here.presences
        for room in rooms:
            is_known = presences.knows(room) or users.find(room) is None
            if not is_known or (recoverable and not recovery.keeps(room)):
                raise AdapterUnavailable(
                    f"The edge of this client does not know yet what {room!r} has: it could not "
                    "read what workers have declared."
                )

    async def renew_users(self, rooms: tuple[Room, ...]) -> None:
        """In the rooms that it is in still it may be somebody else to its present endpoint."""
        held, members = self.socket.rooms & set(rooms), self.here.rooms
        if held:
            await self.here.presences.renew(self.socket, held, lambda room: members.get(room, ()))

    def joined_before(
        self, rooms: tuple[Room, ...], joined: Joined, *, since: str | None
    ) -> Joined:
        """It is in these still, and has missed nothing meanwhile.

        But where others had it join, it may have missed what came after a position.
        """
        gone = None if since is None else False
        found = {self._recovered.get(room, gone) for room in rooms}
        recovered = next((known for known in (False, True) if known in found), None)
        return replace(joined, recovered=recovered)

    def not_joined(self, rooms: tuple[Room, ...], others: Collection[Room]) -> None:
        """Its endpoint has failed to join rooms, of which others had it in some before.

        What others have done with them meanwhile it has not been told, and hears now.
        """
        for room in rooms:
            is_by_others = room in self.claims.others
            if is_by_others != (room in others):
                self.owner.tell("join-room" if is_by_others else "leave-room", self, room)
        if self.grace is None:  # what it was about to claim has no more time
            self.leave_unclaimed()

    def left(self, room: Room) -> None:
        """It has left a room."""
        self.claims.left(room)
        self._recovered.pop(room, None)
        self._told.pop(room, None)

    def watch(self, rooms: tuple[Room, ...]) -> None:
        """Its endpoint wants to know its positions in these."""
        for room in self.socket.rooms & set(rooms):
            self._told.setdefault(room, None)

    def moved(self) -> Iterator[tuple[Room, str]]:
        """The positions that are to be told, as they are others than was told before."""
        for room, told in tuple(self._told.items()):
            position = self.socket.position(room)
            if position is None:
                del self._told[room]
            elif position != told:
                self._told[room] = position
                yield room, position

    def begin_attempt(self) -> None:
        """Another endpoint begins: it has to claim the rooms."""
        self._stop_grace()
        self._told.clear()
        self.is_entered = False
        self.claims.begin_attempt(room for room in self.socket.rooms if room != self.socket.sid)

    def claimed(self) -> None:
        """The endpoint has entered: it is told where others had it join."""
        self._stop_grace()
        self.is_entered = True
        rooms = [room for room in self.claims.others if room in self.socket.rooms]
        for start in range(0, len(rooms), TOLD_AT_ONCE):
            self.owner.tell_rooms(self, rooms[start : start + TOLD_AT_ONCE])
        self.begin_grace()

    def begin_grace(self) -> None:
        """The endpoint has entered, here or in another namespace: its time to claim rooms runs."""
        if self.grace is None and self.claims.unclaimed:
            loop = asyncio.get_running_loop()
            self.grace = loop.call_later(GRACE, self.leave_unclaimed)

    def leave_unclaimed(self) -> None:
        """Leave what was not claimed."""
        self._stop_grace()
        rooms = tuple(self.claims.unclaimed)
        if rooms:
            self.socket._host.leave(self.socket, rooms)

    def _stop_grace(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


def own(found: EdgeSocket) -> None:
    """From now on, its client's backend is told of what others do to it."""
    _watch(found.namespace)
    _owners[found.socket] = found


def disown(found: EdgeSocket) -> None:
    """It leaves."""
    _owners.pop(found.socket, None)


def owner_of(socket: Socket) -> EdgeSocket | None:
    """Of a socket of an edge's client, what the edge knows of it."""
    return _owners.get(socket)


def _joined(room: Room, socket: Socket) -> None:
    _tell("join-room", room, socket)


def _joined_by_others(socket: Socket, rooms: Iterable[Room]) -> None:
    if (found := _owners.get(socket)) is not None:
        found.claims.by_others(room for room in rooms if room != socket.sid)


def _left(room: Room, socket: Socket) -> None:
    _tell("leave-room", room, socket)
    if (found := _owners.get(socket)) is not None:
        found.left(room)


def _tell(event: str, room: Room, socket: Socket) -> None:
    found = _owners.get(socket)
    if found is not None and not found.claims.knows(room):
        found.owner.tell(event, found, room)


def _gap(gap: Gap) -> None:
    """Some have missed messages for good: their endpoints are opened again, and know by that.

    After an outage that is done for all; but a worker may be told too much at once, or too late.
    """
    rooms, here = frozenset(gap.rooms), gap.namespace._here
    lost = frozenset(filter(here.recovery.keeps, rooms))
    for socket, found in list(_owners.items()):
        if found.here is here and not rooms.isdisjoint(socket.rooms):
            found.lost(lost & socket.rooms)
            found.owner.reopen()


def _watch(namespace: Namespace) -> None:
    """Have us told of what happens to sockets of a namespace: once for each."""
    handlers = namespace._here.events.handlers
    if _joined not in handlers.of("join-room"):
        handlers.on("join-room")(_joined)
        handlers.on("leave-room")(_left)
        handlers.on("gap")(_gap)
        namespace._here.joins.by_others = _joined_by_others
