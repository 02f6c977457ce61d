"""A namespace on this worker: who is in it, and what is done to them, whoever wants it done.

Connections bring sockets in and out; sockets join and leave; broadcasts, from here or from another
worker, are delivered; and the verbs that any worker may ask for find here what they need.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from starlette.websockets import WebSocket

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.cluster.description import describe
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.membership import Left, Membership
from fastapi_rooms.core.names import new_sid
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import SidInUse, SocketClosed, TooManyRooms, UsageError
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.servers import open_transport
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Channel, Room, Sid
from fastapi_rooms.worker.authorization import Authorization
from fastapi_rooms.worker.drain import Drainable, SocketDrainer
from fastapi_rooms.worker.events import Events, Gap
from fastapi_rooms.worker.everywhere import Everywhere
from fastapi_rooms.worker.fanout import Delivery, Fanout
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

DISMISSED_AT_ONCE = 100
"""Sockets whose closing begins in one turn of the event loop; each goes on in turns of its own."""


class PendingDisconnect(NamedTuple):
    """A socket that is in no room any more, and about to be closed."""

    left: Left
    code: int
    reason: str


class LocalNamespace:
    """The half of a namespace that is on this worker."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        """Its name, with the leading slash."""
        self._runtime = runtime
        self.everywhere = Everywhere(self, runtime)
        """The whole namespace, of which this is the half that is here."""
        self.everyone = BroadcastOperator(self.everywhere)
        """The operator that all others are made from."""
        self._sockets: dict[Sid, Socket] = {}
        self._parting: dict[Socket, PendingDisconnect] = {}
        self._members: Membership[Transport] = Membership()
        self._farewells = SocketDrainer(self._sockets, self._members, self.written)
        self._fanout = Fanout(self._members)
        self._listeners: Membership[Listener] = Membership()
        self.events = Events()
        self.guards = Authorization()
        self.handlers: dict[str, Callable[..., Any]] = {}
        """Of server-side events, by their names."""
        self._channel = runtime.channels.of_namespace(name)
        runtime.namespaces[name] = self

    @property
    def rooms(self) -> Mapping[Room, AbstractSet[Sid]]:
        """The rooms here and the sids in them: a live, read-only view."""
        return self._members.rooms

    @property
    def sids(self) -> Mapping[Sid, AbstractSet[Room]]:
        """The sids here and the rooms they are in: a live, read-only view."""
        return self._members.sids

    @property
    def outbox(self) -> OutboxPolicy:
        """What happens to sockets and listeners that do not keep up."""
        return self._runtime.settings.outbox

    @property
    def has_authorizers(self) -> bool:
        """Whether anyone asked to be asked before a socket joins."""
        return bool(self.guards)

    def deliver_here(self, target: Target, payload: Payload, *, volatile: bool) -> Delivery | None:
        """Deliver to this worker's members and listeners: both halves of a broadcast end here."""
        if self._listeners and target.rooms is not None:
            for listener in self._listeners.resolve(target):
                listener.offer(target, payload)
        return self._fanout.write(target, payload, volatile=volatile)

    @asynccontextmanager
    async def listen(
        self, rooms: tuple[Room, ...], outbox: OutboxPolicy | None
    ) -> AsyncIterator[Listener]:
        """Have a listener among the members of some rooms, for the time of the block."""
        channels = (self._channel, *self._channels_of(rooms))
        await self._runtime.acquire(channels)
        listener = Listener(rooms, outbox or self.outbox)
        key = new_sid(self._runtime.node)
        self._listeners.add(key, listener)
        self._listeners.join(key, rooms)
        try:
            yield listener
        finally:
            listener.close()
            if self._listeners.get(key) is not None:  # else the manager was closed meanwhile
                self._listeners.remove(key)
                self._runtime.release(channels)

    # What the verbs need, on whichever worker they are asked.

    def sockets(self, target: Target) -> list[Socket]:
        """The sockets here that a target addresses."""
        excluded = self._members.excluded(target)
        return [self._sockets[s] for s in self._members.select(target.rooms) if s not in excluded]

    def socket(self, sid: Sid) -> Socket | None:
        """The socket here that has a sid."""
        socket = self._sockets.get(sid)
        return None if socket is None or socket in self._parting else socket

    async def put(self, sockets: list[Socket], rooms: tuple[Room, ...]) -> None:
        """Put sockets into rooms, once for all of them; those that have gone are left out.

        Those that would be in too many rooms are left out as well, and then it raises
        `TooManyRooms`, after the others are in.
        """
        if not sockets:
            return  # so that nothing is subscribed to here, where nobody is to join
        channels = self._channels_of(rooms)
        full: TooManyRooms | None = None
        await self._runtime.acquire(channels)
        try:
            async for some in in_slices(sockets):
                for socket in some:
                    try:
                        await self.join(socket, rooms)
                    except SocketClosed:
                        continue
                    except TooManyRooms as error:
                        full = error
        finally:
            self._runtime.release(channels)
        if full is not None:
            raise full

    def take_out(self, sockets: list[Socket], rooms: tuple[Room, ...]) -> None:
        """Take sockets out of rooms, but not out of their own."""
        channel_of = dict(zip(rooms, self._channels_of(rooms), strict=True))
        released: list[Channel] = []
        for socket in sockets:
            if self._is_in(socket):
                names = [room for room in rooms if room != socket.sid]
                left = self._members.leave(socket.sid, names)
                released += [channel_of[room] for room in left.rooms]
                self._announce_left(socket, left)
        self._runtime.release(released)

    def disconnect(self, sockets: list[Socket], code: int, reason: str) -> Awaitable[None]:
        """Take sockets out of every room at once, and close them behind what was sent before.

        What it returns is done when all of them have left the namespace, and are being closed.
        """
        parting = [socket for socket in sockets if self._is_in(socket)]
        for socket in parting:
            self._parting[socket] = PendingDisconnect(
                self._members.remove(socket.sid), code, reason
            )
        return self._dismiss(parting)

    async def _dismiss(self, sockets: list[Socket]) -> None:
        try:
            async for some in in_slices(sockets, DISMISSED_AT_ONCE):
                self._dismiss_at_once(some)
        finally:  # out of every room, and never closed: that must not be, whatever ends us
            self._dismiss_at_once(sockets)

    def _dismiss_at_once(self, sockets: Iterable[Socket]) -> None:
        for socket in sockets:
            if (parting := self._parting.get(socket)) is not None:
                socket.dismiss(parting.code, parting.reason)

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event."""
        handler = self.handlers.get(event)
        if handler is None:
            raise UsageError(f"There is no handler of {event!r} here.")
        return handler(*args)

    def describe(self) -> dict[str, Any]:
        """What there is to know of this worker, in JSON values."""
        return describe(self._runtime.cluster.uptime, self._runtime.namespaces.values())

    # What connections and sockets call.

    def open_transport(self, websocket: WebSocket, on_overflow: Callable[[], None]) -> Transport:
        """A way to the client of an accepted connection."""
        leave, direct = self._runtime.leave, self._runtime.settings.direct
        return open_transport(websocket, self.outbox, on_overflow, leave, direct=direct)

    async def enter(self, socket: Socket, transport: Transport) -> None:
        """Bring a socket in, in the room of its own sid."""
        channels = (self._channel, *self._channels_of((socket.sid,)))
        self._check_free(socket.sid)
        await self._runtime.acquire(channels)
        try:
            self._check_free(socket.sid)  # another may have taken it while we waited
        except SidInUse:
            self._runtime.release(channels)
            raise
        self._sockets[socket.sid] = socket
        self._members.add(socket.sid, transport)
        self._members.join(socket.sid, (socket.sid,))
        self.events.emit("connect", socket)

    def exit(self, socket: Socket) -> bool:
        """Take a socket out of every room; returns whether it was in. Does not wait."""
        if self._sockets.get(socket.sid) is not socket:
            return False
        del self._sockets[socket.sid]
        parting = self._parting.pop(socket, None)
        left = self._members.remove(socket.sid) if parting is None else parting.left
        self._runtime.release((self._channel, *self._channels_of(left.rooms)))
        self._announce_left(socket, left)
        self.events.emit("disconnect", socket)
        self._farewells.gone(socket)
        return True

    async def written(self) -> None:
        """Return when every broadcast that was sent before is with the sockets it is for."""
        await self._fanout.written()

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms a socket is in: none once it has left, whoever has its sid then."""
        return self.sids[socket.sid] if self._is_in(socket) else frozenset()

    async def admit(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Ask the handlers of `authorize` about the rooms the socket is not in yet."""
        self._check_in(socket)
        mine = self.rooms_of(socket)
        new = [room for room in dict.fromkeys(rooms) if room not in mine]
        if new:
            self._runtime.settings.check_rooms(mine, new)  # before a client has us ask for nothing
            await self.guards.ask(socket, new)

    async def join(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Put a socket into rooms once the adapter has confirmed all of them."""
        self._check_in(socket)
        mine = self.rooms_of(socket)
        new = tuple(room for room in dict.fromkeys(rooms) if room not in mine)
        if not new:
            return
        self._runtime.settings.check_rooms(mine, new)
        await self._runtime.acquire(self._channels_of(new))
        try:
            self._check_in(socket)  # it may have left, or joined others, while we waited
            self._runtime.settings.check_rooms(mine, new)
        except (SocketClosed, TooManyRooms):
            self._runtime.release(self._channels_of(new))
            raise
        joined = self._members.join(socket.sid, new)
        # Another task may have joined the socket to some of them while we waited.
        self._runtime.release(self._channels_of(r for r in new if r not in joined.rooms))
        for room in joined.created:
            self.events.emit("create-room", room)
        for room in joined.rooms:
            self.events.emit("join-room", room, socket.sid)

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take a socket out of rooms, but not out of its own."""
        self.take_out([socket], rooms)

    def gap(self, outage: Outage) -> None:
        """Tell the handlers which of this namespace's rooms may have missed something.

        Where shards are lost one by one, the namespace's own channel may be the one: then any room
        may have missed what was sent to several.
        """
        runtime, lost = self._runtime, outage.channels
        all_rooms = runtime.sharded and self._channel in lost
        names = (self.rooms.keys() | self._listeners.rooms.keys()) - self.sids.keys()
        of_room = runtime.channels.of_room
        rooms = frozenset(n for n in names if all_rooms or of_room(self.name, n) in lost)
        sockets = self.sids and runtime.channels.of_node(runtime.node) in lost
        if rooms or sockets or self._channel in lost:
            self.events.emit("gap", Gap(outage.since, outage.until, rooms))

    def guests(self) -> list[Drainable]:
        """Everyone inside, to be seen out; the manager is leaving."""
        listeners = (listener.see_out for listener in self._listeners.members())
        return [*self._farewells.guests(), *listeners]

    async def close(self) -> None:
        """Forget those who could not be seen out; the manager is closing."""
        self._dismiss_at_once([*self._parting])
        for transport in self._members.members():
            transport.stop()
        for socket in list(self._sockets.values()):
            self.exit(socket)
        for listener in self._listeners.members():
            listener.close()
        self._fanout.close()
        self._listeners.clear()
        await self.events.close(self._runtime.settings.drain_schedule.timeout)

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone: there is nothing to stop any more."""
        self._fanout = Fanout(self._members)
        self._sockets.clear()
        self._parting.clear()
        self._members.clear()
        self._listeners.clear()
        self.events.forget()

    def _announce_left(self, socket: Socket, left: Left) -> None:
        for room in left.rooms:
            if room != socket.sid:
                self.events.emit("leave-room", room, socket.sid)
        for room in left.deleted:
            if room != socket.sid:
                self.events.emit("delete-room", room)

    def _check_free(self, sid: Sid) -> None:
        if self._sockets.get(sid) is not None:
            raise SidInUse(f"A socket of this worker in {self.name} has the sid {sid!r} already.")

    def _is_in(self, socket: Socket) -> bool:
        return self._sockets.get(socket.sid) is socket and socket not in self._parting

    def _check_in(self, socket: Socket) -> None:
        if not self._is_in(socket):
            raise SocketClosed(f"{socket} has left: its `connect` block is over.")

    def _channels_of(self, rooms: Iterable[Room]) -> list[Channel]:
        return [self._runtime.channels.of_room(self.name, room) for room in rooms]
