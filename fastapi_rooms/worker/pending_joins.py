"""Joins that are under way, and what those who join leave meanwhile.

A leave counts for the joins that were begun before it. That of a crowd is noted once, and looked at
when a socket's turn to join comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.socket import Socket


class _Left(NamedTuple):
    """What a crowd has left."""

    number: int
    crowd: Mapping[Sid, Transport]
    rooms: frozenset[Room]


class PendingJoin:
    """A join that is under way, of one socket or of a crowd."""

    __slots__ = ("_left", "_left_by_crowds", "_rooms", "crowd", "number", "socket")

    def __init__(
        self,
        number: int,
        rooms: tuple[Room, ...],
        left_by_crowds: Collection[_Left],
        socket: Socket | None = None,
        crowd: Mapping[Sid, Transport] | None = None,
    ) -> None:
        self.number = number
        """Rises from one join or leave to the next."""
        self.socket = socket
        """Who joins, if it is one."""
        self.crowd = crowd or {}
        """Who joins, if they are many."""
        self._rooms = rooms
        self._left: dict[Socket, set[Room]] = {}
        self._left_by_crowds = left_by_crowds

    def is_of(self, socket: Socket) -> bool:
        """Whether a socket is in the crowd that joins."""
        return self.crowd.get(socket.sid) is socket._transport

    def rooms_of(self, socket: Socket) -> tuple[Room, ...]:
        """The rooms that a socket is to be in: those it has not left since."""
        left: set[Room] | frozenset[Room] | None = self._left.get(socket)
        for each in self._left_by_crowds:
            if each.number > self.number and each.crowd.get(socket.sid) is socket._transport:
                left = each.rooms.union(left or ())
        if not left:
            return self._rooms
        return tuple(room for room in self._rooms if room not in left)

    def leave(self, socket: Socket, rooms: frozenset[Room]) -> None:
        """A socket leaves rooms; its own, in which it is already, does not matter."""
        left = set(self._rooms).intersection(rooms)
        if left:
            self._left.setdefault(socket, set()).update(left)

    def is_into(self, rooms: set[Room]) -> bool:
        """Whether it is into any of these rooms, but for those who have left them since."""
        return not rooms.isdisjoint(self._rooms)


class PendingJoins:
    """The joins of a namespace that are under way."""

    __slots__ = ("_crowds", "_in_order", "_joins", "_left", "_number")

    def __init__(self) -> None:
        self._joins: dict[Socket, list[PendingJoin]] = {}
        self._crowds: dict[PendingJoin, None] = {}
        self._in_order: dict[PendingJoin, None] = {}
        self._left: list[_Left] = []
        self._number = 0

    def begin(self, socket: Socket, rooms: tuple[Room, ...]) -> PendingJoin:
        """A join of one socket is under way, until `end` is called."""
        join = PendingJoin(self._next_number(), rooms, self._left, socket)
        self._joins.setdefault(socket, []).append(join)
        self._in_order[join] = None
        return join

    def begin_crowd(self, crowd: Mapping[Sid, Transport], rooms: tuple[Room, ...]) -> PendingJoin:
        """A join of a crowd is under way, until `end` is called."""
        join = PendingJoin(self._next_number(), rooms, self._left, crowd=crowd)
        self._crowds[join] = self._in_order[join] = None
        return join

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def end(self, join: PendingJoin) -> None:
        """A join is over."""
        if join.socket is None:
            del self._crowds[join]
        else:
            joins = self._joins[join.socket]
            joins.remove(join)
            if not joins:
                del self._joins[join.socket]
        del self._in_order[join]
        oldest = next(iter(self._in_order), None)
        while self._left and (oldest is None or oldest.number > self._left[0].number):
            del self._left[0]

    def leave_all(self, sockets: Iterable[Socket], rooms: Collection[Room]) -> None:
        """Sockets leave rooms, if they are in them or not yet."""
        if not self._in_order:
            return
        names = frozenset(rooms)
        for socket in sockets:
            for join in self._joins.get(socket, ()):
                join.leave(socket, names)
            for join in self._crowds:
                if join.is_of(socket):
                    join.leave(socket, names)

    def leave_crowd(self, crowd: Mapping[Sid, Transport], rooms: Collection[Room]) -> None:
        """A crowd leaves rooms, if its sockets are in them or not yet."""
        if self._in_order:
            self._left.append(_Left(self._next_number(), crowd, frozenset(rooms)))

    def sockets(self, rooms: Iterable[Room]) -> list[Socket]:
        """The sockets that are on their way into any of these rooms, each by itself."""
        names = set(rooms)
        return [
            socket
            for socket, joins in self._joins.items()
            if any(not names.isdisjoint(join.rooms_of(socket)) for join in joins)
        ]

    def crowds(self, rooms: Iterable[Room]) -> list[PendingJoin]:
        """The joins of crowds into any of these rooms; some of each may have left it since."""
        names = set(rooms)
        return [join for join in self._crowds if join.is_into(names)]
