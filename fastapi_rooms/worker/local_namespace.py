"""A namespace on this worker: who is in it, and what is done to them, whoever asks for it.

Operators send and make requests, connections bring sockets in and out, sockets join and leave,
broadcasts from here and from other workers are delivered, and commands find what they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, ref

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.core.json_codec import JsonCodec
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, SidInUse
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Channel, NodeId, Room, Sid
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace
from fastapi_rooms.worker.clients import Clients
from fastapi_rooms.worker.crowds import Crowd, Crowds
from fastapi_rooms.worker.disconnects import Client, PendingDisconnect
from fastapi_rooms.worker.drain import Drainable
from fastapi_rooms.worker.emit_verb import EmitVerb
from fastapi_rooms.worker.events import Events, Gap, WorkerLost
from fastapi_rooms.worker.gaps import gap_of, tell_gap
from fastapi_rooms.worker.handlers import Handlers
from fastapi_rooms.worker.joins import Joins
from fastapi_rooms.worker.listener import Listeners
from fastapi_rooms.worker.presences import Presences
from fastapi_rooms.worker.recovery import Recovery
from fastapi_rooms.worker.resume import Joined, Resume
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace


_DRAIN: Callable[[Client], Drainable] = attrgetter("drain")


class LocalNamespace(EmitVerb):
    """The part of a namespace that is on this worker.

    It is the `Dispatcher` of operators, the `SocketHost` of sockets, the `CommandTarget` of what
    other workers ask for, and the `ManagedNamespace` of the manager's runs.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        handlers: Handlers,
        make_public: Callable[[LocalNamespace], Namespace],
    ) -> None:
        self.name = name
        """Its name, with the leading slash."""
        self._make_public = make_public
        self._public: ref[Namespace] | None = None  # it holds us
        self.runtime = self._runtime = runtime
        """What it shares with the manager's other namespaces."""
        self.clients = self._clients = Clients(name)
        """Who is connected to it here."""
        self._members: Membership[Transport] = Membership()
        self.listeners = self._listeners = Listeners()
        self.events = Events(handlers.events, WeakMethod(self.settle))
        self.recovery = Recovery(
            name, runtime, self._members, self._listeners, handlers.history, WeakMethod(self.tell)
        )
        """What is done for its recoverable rooms."""
        self.presences = Presences(name, runtime, handlers.presence, ref(self))
        """Who is present in its rooms that know it."""
        self._crowds = Crowds(
            name, runtime, self._members, self._clients, self.events, self.recovery, self.presences
        )
        self.joins = self._joins = Joins(
            name,
            runtime,
            self._members,
            self.events,
            handlers.authorization,
            self.recovery,
            self.presences,
            self._clients.is_in,
            self._crowds,
        )
        """Brings sockets into rooms."""
        self.handlers = self._handlers = handlers
        """What the application has registered for it."""
        self._channel = runtime.channels.of_namespace(name)
        runtime.living[name] = self

    @property
    def namespace(self) -> Namespace:
        """What users have of it: one object as long as anybody holds that, else a new one."""
        with self.handlers.lock:
            public = None if self._public is None else self._public()
            if public is None:
                public = self._make_public(self)
                self._public = ref(public)
            return public

    def settle(self) -> None:
        """Be in reach of the runs while something is here, or can come: see `namespaces`."""
        with self.handlers.lock:  # a thread may register a handler at this very moment
            here = self._clients, self._listeners, self.events.at_work, self.handlers
            self._runtime.keep(self, any(here) or bool(self.recovery or self.presences))

    @property
    def rooms(self) -> Mapping[Room, AbstractSet[Sid]]:
        return self._members.rooms

    @property
    def sids(self) -> Mapping[Sid, AbstractSet[Room]]:
        return self._members.sids

    @property
    def outbox(self) -> OutboxPolicy:
        """What happens to sockets and listeners that do not keep up."""
        return self._runtime.settings.outbox

    @property
    def json(self) -> JsonCodec:
        """How values become JSON, and JSON values."""
        return self._runtime.settings.json

    # What operators call.

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        """Publish to the other workers, deliver here, and wait until both have taken it.

        Publishing comes first: while this worker writes to a crowd, the message is on its way.
        """
        run = self._runtime.run
        run.check_size(len(payload.data))
        if target.rooms == ():
            return
        if self.recovery.patterns and not (local or volatile) and self.recovery.takes(target):
            await self.recovery.send(target, payload)
            return
        if run.fanout.is_full and not volatile:  # that is skipped instead
            await run.fanout.room()
        unavailable: AdapterUnavailable | None = None
        try:
            publish = run.publish_local if local else run.publish
            accepted = publish(self.name, target, payload, volatile=volatile)
        except AdapterUnavailable as error:
            accepted, unavailable = None, error  # the members here get it all the same
        if self._listeners:
            self._listeners.offer(target, payload)
        delivery = run.fanout.send(self._members, target, payload, volatile=volatile)
        if unavailable is not None:
            raise self._runtime.own(unavailable) from unavailable.__cause__
        try:
            if accepted is not None:
                await accepted
            if delivery is not None:
                await delivery.written()
        except asyncio.CancelledError:
            if delivery is not None:
                delivery.cancel()
            raise
        except AdapterUnavailable as error:
            if delivery is not None:
                await delivery.written()
            raise self._runtime.own(error) from error.__cause__
        if run.spend_turn(len(payload.data)):
            await asyncio.sleep(0)

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Have workers carry out a request: see `Cluster.request`."""
        return await self._runtime.request(self.name, request, reader, timeout)

    # What arrives, from here or from another worker.

    def receive(self, target: Target, payload: Payload, *, volatile: bool) -> None:
        """Deliver a message of another worker to this worker's members and listeners."""
        if self.recovery and not volatile:
            self.recovery.received_plain(target)
        if self._listeners:
            self._listeners.offer(target, payload)
        run = self._runtime.running
        if not run.fanout.receive(self._members, target, payload, volatile=volatile):
            run.overload.dropped(self, target)

    def received_in_place(self, placed: InPlace, message: Broadcast) -> None:
        """Deliver a message of a recoverable room, unless it was delivered."""
        if not self.recovery.received(placed, message):
            self._runtime.running.overload.dropped(self, message.target)

    async def written(self) -> None:
        """Return when all earlier broadcasts are with the sockets they are for."""
        await self._runtime.running.fanout.written()

    def gap(self, outage: Outage) -> None:
        """Tell the handlers which of this namespace's rooms may have missed something, if any."""
        run, rooms = self._runtime.running, self.recovery.outage(outage)
        remembers, sids = self.recovery.keeps, self.sids.keys()
        steps = gap_of(outage, self.name, rooms, remembers, sids, self._runtime)
        tell_gap(steps, self.tell, run)

    def tell(self, gap: Gap) -> None:
        """Tell the handlers of a gap."""
        self.events.emit("gap", gap._in(self.namespace))

    def missed(self, since: float, until: float, rooms: set[Room] | None) -> None:
        """Tell the handlers that messages to these rooms, or to everyone, were dropped here."""
        names = self.rooms if rooms is None else rooms
        self.tell(Gap(since, until, tuple(name for name in names if name not in self.sids)))

    @property
    def wants_losses(self) -> bool:
        """Whether a handler is to be told of workers that are lost."""
        return bool(self.events.handlers.of("worker-lost"))

    def worker_lost(self, node: NodeId, rooms: tuple[Room, ...]) -> None:
        """Tell the handlers that a worker is lost, and which rooms it had as far as is known."""
        self.events.emit("worker-lost", WorkerLost(node, rooms)._in(self.namespace))

    # What connections call.

    async def enter(self, client: Client) -> None:
        """Bring a client in, in the room of its own sid.

        Raises `AdapterUnavailable`, `ShuttingDown`, `SidInUse` or `NotStarted`.
        """
        run, socket = self._runtime.run, client.socket
        channels = (self._channel, *self._channels_of((socket.sid,)))
        self._clients.check_free(socket.sid)
        await self._runtime.attribute(run.acquire(channels))
        try:
            self._clients.check_free(socket.sid)  # another may have taken it while we waited
        except SidInUse:
            run.release(channels)
            raise
        self._clients.add(client)
        self.settle()
        self._members.add(socket.sid, client.transport)
        self._members.join(socket.sid, (socket.sid,))
        self.recovery.framed.add(socket.sid, client.transport)
        self.events.emit("connect", socket)

    def exit(self, client: Client) -> bool:
        """Take a client out of every room; returns whether it was in. Does not wait."""
        socket = client.socket
        if not self._clients.remove(client):
            return False
        self.recovery.framed.remove(socket.sid)
        pending = self._clients.disconnects.pop(socket.sid)
        left = self._members.remove(socket.sid) if pending is None else pending.left
        self._runtime.release((self._channel, *self._channels_of(left.rooms)))
        self.presences.exited(socket, left.rooms)
        self.events.left(socket, left)
        self.events.emit("disconnect", socket)
        return True

    def ended(self, client: Client) -> None:
        """The block of a client is over."""
        self._clients.ended(client)
        self.settle()

    # What sockets call.

    def is_in(self, socket: Socket) -> bool:
        """Whether a socket has not left, and is not about to be closed."""
        return self._clients.is_in(socket)

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms a socket is in: none once it has left, whoever has its sid then."""
        return self.sids[socket.sid] if self._clients.is_in(socket) else frozenset()

    async def join(self, socket: Socket, rooms: tuple[Room, ...], resume: Resume) -> Joined:
        """Put a socket into rooms, if it may, once the adapter has confirmed all of them."""
        self._runtime.check_here()
        return await self._joins.join(socket, rooms, resume)

    def position_of(self, room: Room) -> str | None:
        """Up to where the members of a recoverable room have been written to here."""
        return self.recovery.written_position(room)

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take a socket out of rooms, but not out of its own."""
        self._runtime.check_here()
        self.leave_all([socket], rooms)

    async def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        """Take a socket out of every room at once, and close it behind what was sent before."""
        self._runtime.check_here()
        await self.disconnect_all((socket,), code, reason)

    def lost(self, socket: Socket) -> None:
        """Take a socket out whose client is gone."""
        self._clients.lost(socket)

    # What commands call, on whichever worker they were given.

    def crowd(self, target: Target, *, joining: bool = False) -> Crowd:
        """Whom a target addresses here; with `joining`, also those on their way in."""
        return self._crowds.of(target, self._joins.pending if joining else None)

    def sockets(self, part: Iterable[tuple[Sid, Transport]]) -> list[Socket]:
        """The sockets of a part of a crowd that are in still."""
        return self._crowds.sockets(part)

    def count(self, target: Target) -> int:
        """How many sockets here a target addresses."""
        return len(self._members.resolve(target))

    def alone(self, sid: Sid) -> Crowd:
        """The one here that has a sid, as a crowd; nobody if there is none."""
        return self._crowds.alone(sid)

    def join_crowd(self, crowd: Crowd, rooms: tuple[Room, ...]) -> Awaitable[None]:
        """Put a crowd into rooms: see `Joins.join_all`."""
        return self._joins.join_all(crowd, rooms)

    def leave_crowd(self, crowd: Crowd, rooms: tuple[Room, ...]) -> Awaitable[None] | None:
        """Take a crowd out of rooms, or off their way into them, but not out of their own."""
        self._joins.pending.leave_crowd(crowd, rooms)
        return self._crowds.leave(crowd, rooms)

    def disconnect_crowd(self, crowd: Crowd, code: int, reason: str) -> Awaitable[None] | None:
        """Take a crowd out of every room at once, and close it behind what was sent before."""
        return self._crowds.disconnect(crowd, code, reason)

    def leave_all(self, sockets: Iterable[Socket], rooms: tuple[Room, ...]) -> None:
        """Take sockets out of rooms, or off their way into them, but not out of their own."""
        by_sid = {socket.sid: socket for socket in sockets if self._clients.is_in(socket)}
        self._joins.pending.leave_all(by_sid.values(), rooms)
        for departure in self._members.leave_all(by_sid, rooms):
            self._crowds.departed(departure)

    def disconnect_all(self, sockets: Iterable[Socket], code: int, reason: str) -> Awaitable[None]:
        """Take sockets out of every room at once, and close them behind what was sent before.

        The awaitable is done when all of them have left the namespace, and are being closed.
        """
        pending = []
        for socket in sockets:
            if self._clients.is_in(socket):
                client, left = self._clients[socket.sid], self._members.remove(socket.sid)
                pending.append(PendingDisconnect(client, left, code, reason))
                self._clients.disconnects.add(pending[-1])
        return self._clients.disconnects.close(pending)

    def handle(self, event: str, args: list[Any]) -> Any:
        return self._handlers.call_server_side(event, args)

    def forget_history(self, room: Room) -> None:
        self.recovery.forgotten(room)

    def describe(self) -> dict[str, Any]:
        return self._runtime.run.describe(self._runtime.namespaces.values())

    # What the manager calls.

    def drainables(self) -> list[Drainable]:
        """Every client and listener, to be drained."""
        return [*map(_DRAIN, self._clients.open), *self._listeners.drainables()]

    def leave_everyone(self) -> None:
        """Take out those who could not be drained in time; the manager is closing."""
        self._crowds.close()
        self._clients.disconnects.close_now()
        for transport in self._members.members():
            transport.stop()
        for client in self._clients.connected():
            self.exit(client)
        self._joins.end()
        self._listeners.close()

    async def close(self, timeout: float) -> None:
        """Let handlers finish, in so many seconds, and forget the run; everyone has left."""
        await self.events.close(timeout)
        await self.recovery.stop(timeout)

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone: there is nothing to stop any more."""
        self._crowds.forget()
        self._clients.clear()
        self._members.clear()
        self._joins.forget()
        self._listeners.forget()
        self.recovery.forget()
        self.events.forget()
        self.settle()

    def _channels_of(self, rooms: Iterable[Room]) -> list[Channel]:
        return [self._runtime.channels.of_room(self.name, room) for room in rooms]
