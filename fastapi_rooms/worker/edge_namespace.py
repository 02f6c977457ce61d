"""A namespace, for one client that an edge holds: its socket is there, and its endpoint is here.

The edge has the socket in its rooms, so it answers for it, writes to it, and takes part in the
cluster with it. Here are the rules: who may come in and join, and the handlers that are told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import (
    AdapterUnavailable,
    SidInUse,
    SocketClosed,
    TooManyRooms,
    UsageError,
)
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.servers.gateway.calls import Refused, Then
from fastapi_rooms.servers.gateway.connection import VirtualConnection
from fastapi_rooms.types import Room
from fastapi_rooms.worker.clients import Clients
from fastapi_rooms.worker.disconnects import Client
from fastapi_rooms.worker.edge_replies import joined_of, text_or_none
from fastapi_rooms.worker.hello import RESUME_TIMEOUT
from fastapi_rooms.worker.kept_data import KeptData
from fastapi_rooms.worker.own_joins import OwnJoins
from fastapi_rooms.worker.resume import Joined, Resume
from fastapi_rooms.worker.socket import Socket, has_left
from fastapi_rooms.worker.watching import Watching

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace
    from fastapi_rooms.worker.local_namespace import LocalNamespace


class EdgeNamespace:
    """What a `LocalNamespace` is to other connections and sockets, to those of an edge."""

    def __init__(self, here: LocalNamespace, edge: VirtualConnection) -> None:
        self._here = here
        self._edge = edge
        self.name = here.name
        """The namespace's name."""
        self.runtime = here.runtime
        """What it shares with the manager's other namespaces."""
        self.clients = Clients(here.name)
        """This one client, once it is in."""
        self._rooms: dict[Room, None] = {}
        self._given: dict[Room, None] = {}  # by others, before it entered; and not joined since
        self._positions: dict[Room, str] = {}
        self._watched: set[Room] = set()
        self._alias: Room | None = None
        self._data = KeptData()
        self._socket: Socket | None = None
        self._watching = Watching(here)
        self._joins = OwnJoins()

    @property
    def namespace(self) -> Namespace:
        """What users have of it."""
        return self._here.namespace

    @property
    def json(self) -> JsonCodec:
        """How values become JSON, and JSON values."""
        return self._here.json

    @property
    def outbox(self) -> OutboxPolicy:
        """That of the namespace; the edge has its own for broadcasts."""
        return self._here.outbox

    # What operators call.

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        """Send a message, as the namespace does; edges deliver it."""
        self._tell_data()
        await self._here.send(target, payload, local=local, volatile=volatile)

    async def emit(
        self, target: Target, event: str, args: tuple[Any, ...], *, local: bool, volatile: bool
    ) -> None:
        """Send an event, as the namespace does; edges deliver it."""
        self._tell_data()
        await self._here.emit(target, event, args, local=local, volatile=volatile)

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Have workers, edges among them, carry out a request."""
        self._tell_data()
        return await self._here.request(request, reader, timeout)

    # What connections call.

    def accepts(self) -> None:
        """It is `rooms.connect` that accepts the client."""
        self._edge.accepted_by_rooms = True

    async def enter(self, client: Client) -> None:
        """Have the edge bring the socket in. Raises what `LocalNamespace.enter` does."""
        await self.runtime.run.acquire(())  # raises if this worker is draining
        socket = self._socket = client.socket
        data = self._data.changed(socket) or {}
        self._edge.on_event.append(self._happened)
        self._edge.on_lost.append(client.lost)
        self._edge.on_receive.append(self._tell_data)
        self._data.told(data)
        then = partial(self._entered, client)
        try:
            users = self._here.presences.all_users_of(socket)
            await self._call("enter", then, sid=socket.sid, data=data, users=users)
            if self._given:
                await self._watching.begin_if_possible(tuple(self._given))
        except Refused as error:
            if error.kind == "closed":
                socket.is_lost = True
                return
            if error.kind == "sid":
                raise SidInUse(str(error)) from None
            if error.kind == "usage":
                raise UsageError(str(error)) from None
            raise AdapterUnavailable(str(error)) from None
        except ConnectionError:
            socket.is_lost = True
            return
        except BaseException:
            if not self.exit(client):  # the edge may have it in, or be about to
                self._edge.tell("exit", namespace=self.name)
            raise

    def _entered(self, client: Client, reply: dict[str, Any]) -> None:
        """It is in, in its own room and in those where others had it join before."""
        socket = client.socket
        self.clients.add(client)
        self._rooms |= {socket.sid: None, **self._given}
        self._alias = text_or_none(reply, "alias")
        if self._alias is not None:
            self._here.recovery.framed.know(socket.sid, self._alias)
        self._here.settle()
        self._here.events.emit("connect", socket)
        for room in tuple(self._given):
            if room in self._rooms:
                self._here.events.emit("join-room", room, socket)

    def exit(self, client: Client) -> bool:
        """Take the socket out; returns whether it was in."""
        if not self.clients.remove(client):
            return False
        socket = client.socket
        rooms = [room for room in self._rooms if room != socket.sid]
        self._rooms.clear()
        self._given.clear()
        self._positions.clear()
        if self._alias is not None:
            self._here.recovery.framed.forget(socket.sid, self._alias)
        self._watching.end_all()
        self._edge.tell("exit", namespace=self.name)
        for room in rooms:
            self._here.events.emit("leave-room", room, socket)
        self._here.events.emit("disconnect", socket)
        return True

    def ended(self, client: Client) -> None:
        """The block of the client is over."""
        self.clients.ended(client)
        self._socket = None  # it has this: only the garbage collector would free the two
        if self._happened in self._edge.on_event:
            self._edge.on_event.remove(self._happened)
        if client.lost in self._edge.on_lost:
            self._edge.on_lost.remove(client.lost)
        if self._tell_data in self._edge.on_receive:
            self._edge.on_receive.remove(self._tell_data)
        self._here.settle()

    async def written(self) -> None:
        """What was sent before is on the same way as what follows."""

    # What sockets call.

    def is_in(self, socket: Socket) -> bool:
        """Whether a socket has not left."""
        return self.clients.is_in(socket)

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms it is in, as far as the edge has told."""
        return self._rooms.keys() if self.is_in(socket) else frozenset()

    def position_of(self, room: Room) -> str | None:
        """What the edge has told: as of the join, and of what the client has said since then.

        The first time that it is asked for, the edge is told to tell.
        """
        position = self._positions.get(room)
        if position is not None and room not in self._watched:
            self._watched.add(room)
            self._edge.tell("watch", namespace=self.name, rooms=[room])
        return position

    async def join(self, socket: Socket, rooms: tuple[Room, ...], resume: Resume) -> Joined:
        """Put the socket into rooms, if it may, once its edge has confirmed all of them."""
        self.runtime.check_here()
        self._check_in(socket)
        new = tuple(
            room for room in dict.fromkeys(rooms) if room not in self._rooms or room in self._given
        )
        if socket.is_lost:
            return Joined()
        if not new:
            if resume.is_asked:
                raise UsageError(f"{socket} is in {rooms!r} already: nothing can be replayed.")
            known = self._positions
            return Joined(positions={room: known[room] for room in rooms if room in known})
        asked = tuple(room for room in new if room not in self._rooms)
        self.runtime.settings.check_rooms(self._rooms.keys(), asked)
        began = self._joins.begin(new)
        try:
            await self._authorize(socket, asked)
            self._here.recovery.recoverable(new, resume)  # raises for what cannot be asked for
            users = self._here.presences.users_of(socket, new)
            self._tell_data()
            await self._watching.begin(new)  # before its edge makes it known that it joins
            return await self._join(socket, new, began, resume, users)
        finally:
            self._joins.end(new)
            self._stop_watching(new)

    async def _authorize(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        authorization = self._here.handlers.authorization
        if not (authorization and rooms):
            return
        try:
            await authorization.authorize(socket, rooms)
        except Exception:
            if socket.attempt:  # it may hear them still, as an earlier endpoint had joined them
                self._edge.tell("leave", namespace=self.name, rooms=list(rooms))
            raise
        self._check_in(socket)

    async def _join(
        self,
        socket: Socket,
        rooms: tuple[Room, ...],
        began: int,
        resume: Resume,
        users: dict[str, str],
    ) -> Joined:
        rooms = self._joins.not_left(rooms, began)
        if not rooms:
            return Joined()
        then = partial(self._has_joined, socket, rooms, began)
        asked = {"rooms": list(rooms), "since": resume.since, "recent": resume.recent}
        try:
            reply = await self._call("join", then, **asked, users=users)
        except Refused as error:
            raise self._error_of(error) from None
        except ConnectionError:
            return Joined()
        except (asyncio.CancelledError, AdapterUnavailable):
            # The edge may have it in, or be about to.
            tried = [r for r in rooms if r not in self._rooms and self._joins.is_only_of(r)]
            if tried:
                self._edge.tell("leave", namespace=self.name, rooms=tried)
            raise
        return joined_of(reply) if self.is_in(socket) else Joined()

    def _has_joined(
        self, socket: Socket, rooms: tuple[Room, ...], began: int, reply: dict[str, Any]
    ) -> None:
        if not self.is_in(socket):
            return
        self._positions.update(joined_of(reply).positions)
        left = reply.get("left")  # meanwhile
        for room in rooms:
            if self._joins.has_left(room, began):
                continue  # the edge hears of that next, if it has not yet
            self._given.pop(room, None)
            if isinstance(left, list) and room in left:
                self._forget(room)
            elif room not in self._rooms:
                self._rooms[room] = None
                self._here.events.emit("join-room", room, socket)

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take the socket out of rooms, but not out of its own."""
        self.runtime.check_here()
        if not self.is_in(socket):
            return
        left = [room for room in rooms if room != socket.sid]
        self._edge.tell("leave", namespace=self.name, rooms=left)
        self._joins.leave(left)
        for room in left:
            self._forget(room)

    async def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        """Take the socket out of every room at once, and close it behind what was sent before."""
        self.runtime.check_here()
        client = self.clients.get(socket.sid)
        if client is not None and client.socket is socket:
            client.disconnect(code, reason)

    def lost(self, socket: Socket) -> None:
        """Take a socket out whose client is gone."""
        self.clients.lost(socket)

    # The edge.

    async def _call(self, verb: str, then: Then, **arguments: Any) -> dict[str, Any]:
        # The edge has the carrier's time to confirm, and we the way there and back.
        timeout = self.runtime.settings.join_timeout * 2
        if verb == "enter":
            timeout += RESUME_TIMEOUT  # of a client that speaks the framing
        call = self._edge.call(verb, timeout, then, namespace=self.name, **arguments)
        return await self.runtime.attribute(call)

    def _error_of(self, error: Refused) -> Exception:
        text = str(error)
        if error.kind == "rooms":
            return TooManyRooms(*error.numbers)
        if error.kind == "usage":
            return UsageError(text)
        if error.kind == "closed":
            return SocketClosed(text, self._socket)
        return self.runtime.own(AdapterUnavailable(text))

    def _happened(self, event: dict[str, Any]) -> None:
        """Others have put the socket into rooms, or taken it out."""
        socket = self._socket
        room, kind = event.get("room"), event.get("event")
        if event.get("namespace") != self.name or socket is None:
            return
        if not self.is_in(socket):
            if kind == "rooms":  # it is told in the next frame that it is in
                self._was_given(event.get("rooms"))
            return
        if not isinstance(room, str):
            return
        if kind == "leave-room":  # also where others wanted it to join, and it has not
            self._forget(room)
            self._stop_watching((room,))
            return
        if kind in ("joining", "join-room"):
            self._watching.begin_soon(room)
        position = text_or_none(event, "position")
        if position is not None and (kind == "join-room" or room in self._rooms):
            self._positions[room] = position
        if kind == "join-room" and room not in self._rooms:
            self._rooms[room] = None
            self._here.events.emit("join-room", room, socket)

    def _was_given(self, rooms: object) -> None:
        for room, position in rooms.items() if isinstance(rooms, dict) else ():
            self._given[room] = None
            if isinstance(position, str):
                self._positions[room] = position

    def _stop_watching(self, rooms: Iterable[Room]) -> None:
        for room in rooms:
            if room not in self._rooms and room not in self._joins:
                self._watching.end(room)

    def _forget(self, room: Room) -> None:
        if room in self._rooms and self._socket is not None:
            del self._rooms[room]
            self._given.pop(room, None)
            self._positions.pop(room, None)
            self._watched.discard(room)
            self._stop_watching((room,))
            self._here.events.emit("leave-room", room, self._socket)

    def _tell_data(self) -> None:
        """Have the edge know what has changed in `socket.data`."""
        socket = self._socket
        if socket is not None and (data := self._data.changed(socket)) is not None:
            users = self._here.presences.all_users_of(socket)
            self._edge.tell("data", namespace=self.name, data=data, users=users)
            self._data.told(data)

    def _check_in(self, socket: Socket) -> None:
        if not (self.is_in(socket) or socket.is_lost):
            raise SocketClosed(has_left(socket), socket)
