"""Many sockets at once: they leave, or are disconnected, at once for all to see, and part by part.

A crowd is a map from sids to transports, as it was when it was addressed: to copy that takes no
step of Python's for each. What it leaves counts from then on, for broadcasts, commands and views:
see `core.membership`. To tell handlers, release channels and close clients takes a step for each,
and goes on in turns of the event loop of its own, whether or not whoever asked still waits: half a
leave would be neither. Where a socket joins again what it is leaving, its part comes first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from fastapi_rooms.core.membership import CrowdLeave, Departure, Membership
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.clients import Clients
from fastapi_rooms.worker.disconnects import Client, PendingDisconnect, close_in_parts
from fastapi_rooms.worker.events import Events
from fastapi_rooms.worker.pending_joins import PendingJoins
from fastapi_rooms.worker.presences import Presences
from fastapi_rooms.worker.recovery import Recovery
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

Crowd: TypeAlias = Mapping[Sid, Transport]

LEAVE_SLICE = 1000
"""Departures in one turn of the event loop: some 2 ms of work."""


class Crowds:
    """The crowds of a namespace that are on their way out.

    Args:
        namespace: its name.
        runtime: what it shares with others.
        members: who is in which room.
        clients: who is connected.
        events: who is told of departures.
        recovery: told of those from rooms that remember.
        presences: told of those from rooms that know who is present.
    """

    __slots__ = (
        "_clients",
        "_events",
        "_members",
        "_namespace",
        "_presences",
        "_recovery",
        "_runtime",
        "_under_way",
    )

    def __init__(
        self,
        namespace: str,
        runtime: Runtime,
        members: Membership[Transport],
        clients: Clients,
        events: Events,
        recovery: Recovery,
        presences: Presences,
    ) -> None:
        self._namespace = namespace
        self._runtime = runtime
        self._members = members
        self._clients = clients
        self._events = events
        self._recovery = recovery
        self._presences = presences
        self._under_way: dict[asyncio.Future[None], Iterator[None]] = {}

    def of(self, target: Target, joining: PendingJoins | None = None) -> dict[Sid, Transport]:
        """Whom a target addresses, as it is now; with `joining`, who is on the way in, too."""
        excluded = self._members.excluded(target)
        crowd = self._members.select(target.rooms)
        if excluded:
            crowd = {sid: member for sid, member in crowd.items() if sid not in excluded}
        else:
            crowd = crowd.copy()
        if joining is not None and target.rooms is not None:
            for socket in self._joining(joining, target.rooms):
                if socket.sid not in excluded and self._clients.is_in(socket):
                    crowd.setdefault(socket.sid, socket._transport)
        return crowd

    def _joining(self, pending: PendingJoins, rooms: tuple[Room, ...]) -> Iterator[Socket]:
        yield from pending.sockets(rooms)
        names = set(rooms)
        for join in pending.crowds(rooms):
            for socket in self.sockets(join.crowd.items()):
                if not names.isdisjoint(join.rooms_of(socket)):
                    yield socket

    def alone(self, sid: Sid) -> Crowd:
        """The one that has a sid; nobody if there is none."""
        socket = self._clients.socket(sid)
        return {} if socket is None else {sid: socket._transport}

    def sockets(self, part: Iterable[tuple[Sid, Transport]]) -> list[Socket]:
        """The sockets of a part of a crowd that are in still."""
        return [
            client.socket
            for sid, transport in part
            if (client := self._clients.get(sid)) is not None
            and client.transport is transport
            and sid not in self._clients.disconnects
        ]

    def leave(self, crowd: Crowd, rooms: tuple[Room, ...]) -> asyncio.Future[None] | None:
        """Take a crowd out of rooms; what it returns is done when all has been done for each."""
        return self._begin(self._leave(self._members.begin_leave(dict(crowd), rooms), len(rooms)))

    def disconnect(self, crowd: Crowd, code: int, reason: str) -> asyncio.Future[None] | None:
        """Take a crowd out of every room, and close it behind what was sent to it before.

        What it returns is done when the closing of each has begun.
        """
        leave = self._members.begin_leave(dict(crowd), None)
        leaving = CrowdDisconnect(self._members, self._clients, leave, code, reason)
        return self._begin(self._disconnect(leaving))

    def settle(self, socket: Socket) -> None:
        """Do for one socket what is to be done for it as for its crowds, now."""
        for departure in self._members.settle(socket.sid):
            self.departed(departure)

    def departed(self, departure: Departure) -> None:
        """Release the channel of a room for those who have left it, and tell whom it concerns."""
        room, sids, deleted = departure
        channel = self._runtime.channels.of_room(self._namespace, room)
        self._runtime.release([channel] * len(sids))
        self._recovery.left(room, sids)
        self._presences.left(room, sids)
        sockets = (self._clients[sid].socket for sid in sids)
        self._events.departed(room, sockets, deleted=deleted)

    def close(self) -> None:
        """Do nothing more: everyone goes."""
        under_way, self._under_way = self._under_way, {}
        for done in under_way:
            if not done.done():
                done.set_result(None)

    def forget(self) -> None:
        """Forget those of an event loop that is gone."""
        self._under_way.clear()

    # What is done, in parts.

    def _leave(self, leave: CrowdLeave[Transport], rooms: int) -> Iterator[None]:
        size = max(1, LEAVE_SLICE // max(1, rooms))
        while leave.members:
            for departure in self._members.carry_out(leave, size):
                self.departed(departure)
            if leave.members:
                yield

    def _disconnect(self, leaving: CrowdDisconnect) -> Iterator[None]:
        disconnects = self._clients.disconnects
        disconnects.begin_crowd(leaving)
        pending: deque[PendingDisconnect] = deque()
        while leaving:
            pending += disconnects.take(leaving, LEAVE_SLICE)
            if leaving:
                yield
        disconnects.end_crowd(leaving)
        yield from close_in_parts(pending)

    def _begin(self, work: Iterator[None]) -> asyncio.Future[None] | None:
        """Do the first part now; the others in later turns, if there are any."""
        if _is_over(work):
            return None
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._under_way[done] = work
        loop.call_soon(self._go_on, done)
        return done

    def _go_on(self, done: asyncio.Future[None]) -> None:
        work = self._under_way.get(done)
        if work is None:
            return  # closed
        is_over = True
        try:
            is_over = _is_over(work)
        finally:
            if is_over:
                del self._under_way[done]
                if not done.done():
                    done.set_result(None)
            else:
                asyncio.get_running_loop().call_soon(self._go_on, done)


def _is_over(work: Iterator[None]) -> bool:
    for _ in work:
        return False
    return True


class CrowdDisconnect:
    """A crowd that is out of every room for all to see; its clients have yet to be closed."""

    def __init__(
        self,
        members: Membership[Transport],
        clients: Clients,
        leave: CrowdLeave[Transport],
        code: int,
        reason: str,
    ) -> None:
        self._members = members
        self._clients = clients
        self._leave = leave
        self._code = code
        self._reason = reason

    def __bool__(self) -> bool:
        return bool(self._leave.members)

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._leave.members

    def take(self, count: int) -> list[PendingDisconnect]:
        """Take the next out of the maps."""
        found = (self._clients.get(sid) for sid, _ in self._members.next_of(self._leave, count))
        return [self.take_one(client) for client in found if client is not None]

    def take_one(self, client: Client) -> PendingDisconnect:
        """Take one of them out of the maps."""
        left = self._members.remove(client.socket.sid)
        return PendingDisconnect(client, left, self._code, self._reason)
