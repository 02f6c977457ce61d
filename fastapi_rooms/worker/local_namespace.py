"""A namespace on this worker: who is in it, and what is done to them, whoever asks for it.

Operators send and make requests, connections bring sockets in and out, sockets join and leave,
broadcasts from here and from other workers are delivered, and commands find what they need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any

from starlette.websockets import WebSocket

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.cluster.description import describe
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.names import new_sid
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import SidInUse, SocketClosed, TooManyRooms, UsageError
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.operators.dispatcher import ClusterRequest, Part, ResponseReader, T
from fastapi_rooms.servers import open_transport
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Channel, Room, Sid
from fastapi_rooms.worker.authorization import Authorization
from fastapi_rooms.worker.disconnects import Client, Disconnects, PendingDisconnect
from fastapi_rooms.worker.drain import Drainable
from fastapi_rooms.worker.events import Events, Gap
from fastapi_rooms.worker.fanout import Delivery, Fanout
from fastapi_rooms.worker.listener import Listener
from fastapi_rooms.worker.runtime import Runtime
from fastapi_rooms.worker.socket import Socket


class LocalNamespace:
    """The part of a namespace that is on this worker.

    It is the `Dispatcher` of operators, the `SocketHost` of sockets, the `CommandTarget` of what
    other workers ask for, and the `ManagedNamespace` of the manager's runs.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        """Its name, with the leading slash."""
        self._runtime = runtime
        self.everyone = BroadcastOperator(self)
        """The operator that addresses everyone in the namespace, on all workers."""
        self._clients: dict[Sid, Client] = {}
        self._disconnects = Disconnects()
        self._members: Membership[Transport] = Membership()
        self._fanout = Fanout(self._members)
        self._listeners: Membership[Listener] = Membership()
        self.events = Events()
        self.authorization = Authorization()
        self.handlers: dict[str, Callable[..., Any]] = {}
        """Handlers of server-side events, by the event."""
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

    # What operators call.

    async def send(self, target: Target, payload: Payload, *, local: bool, volatile: bool) -> None:
        """Publish to the other workers, deliver here, and wait until both have taken it.

        Publishing comes first: while this worker writes to a crowd, the message is on its way.
        """
        run = self._runtime.run
        run.check_size(payload)
        if target.rooms == ():
            return
        accepted: Awaitable[object] | None = None
        try:
            if not local:
                accepted = run.publish(self.name, target, payload, volatile=volatile)
        finally:  # the members here get it even if the adapter raises
            delivery = self.deliver(target, payload, volatile=volatile)
        try:
            if accepted is not None:
                await accepted
        finally:
            if delivery is not None:
                await delivery.written()
        if run.spend_turn(payload):
            await asyncio.sleep(0)

    async def request(
        self, request: ClusterRequest, reader: ResponseReader[Part, T], timeout: float | None
    ) -> T:
        """Have workers carry out a request: see `Cluster.request`."""
        if timeout is None:
            timeout = self._runtime.settings.request_timeout
        return await self._runtime.run.cluster.request(self.name, request, reader, timeout)

    # What arrives, from here or from another worker.

    def deliver(self, target: Target, payload: Payload, *, volatile: bool) -> Delivery | None:
        """Deliver to this worker's members and listeners: every broadcast ends here."""
        if self._listeners and target.rooms is not None:
            for listener in self._listeners.resolve(target):
                listener.offer(target, payload)
        return self._fanout.write(target, payload, volatile=volatile)

    async def written(self) -> None:
        """Return when every broadcast that was sent before is with the sockets it is for."""
        await self._fanout.written()

    @asynccontextmanager
    async def listen(
        self, rooms: tuple[Room, ...], outbox: OutboxPolicy | None
    ) -> AsyncIterator[Listener]:
        """Have a listener among the members of some rooms, for the time of the block."""
        run = self._runtime.run
        channels = (self._channel, *self._channels_of(rooms))
        await run.acquire(channels)
        listener = Listener(rooms, outbox or self.outbox)
        key = new_sid(run.node)
        self._listeners.add(key, listener)
        self._listeners.join(key, rooms)
        try:
            yield listener
        finally:
            listener.close()
            if self._listeners.get(key) is not None:  # else the manager was closed meanwhile
                self._listeners.remove(key)
                run.release(channels)

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
        sockets = any(of_room(self.name, sid) in lost for sid in self.sids)
        if rooms or sockets or self._channel in lost:
            self.events.emit("gap", Gap(outage.since, outage.until, rooms))

    # What connections call.

    def open_transport(self, websocket: WebSocket, on_overflow: Callable[[], None]) -> Transport:
        """A way to the client of an accepted connection."""
        return open_transport(
            websocket,
            self.outbox,
            on_overflow,
            self._runtime.run.begin_drain,
            direct_writes=self._runtime.settings.direct_writes,
        )

    async def enter(self, client: Client) -> None:
        """Bring a client in, in the room of its own sid.

        Raises `AdapterUnavailable`, `ShuttingDown`, `SidInUse` or `NotStarted`.
        """
        run, socket = self._runtime.run, client.socket
        channels = (self._channel, *self._channels_of((socket.sid,)))
        self._check_free(socket.sid)
        await run.acquire(channels)
        try:
            self._check_free(socket.sid)  # another may have taken it while we waited
        except SidInUse:
            run.release(channels)
            raise
        self._clients[socket.sid] = client
        self._members.add(socket.sid, client.transport)
        self._members.join(socket.sid, (socket.sid,))
        self.events.emit("connect", socket)

    def exit(self, client: Client) -> bool:
        """Take a client out of every room; returns whether it was in. Does not wait."""
        socket = client.socket
        if self._clients.get(socket.sid) is not client:
            return False
        del self._clients[socket.sid]
        pending = self._disconnects.pop(socket.sid)
        left = self._members.remove(socket.sid) if pending is None else pending.left
        self._runtime.release((self._channel, *self._channels_of(left.rooms)))
        self.events.left(socket.sid, left)
        self.events.emit("disconnect", socket)
        client.exited()
        return True

    def contains(self, client: Client) -> bool:
        """Whether a client has come in, has not left, and is not about to be disconnected."""
        return self._is_in(client.socket)

    # What sockets call.

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms a socket is in: none once it has left, whoever has its sid then."""
        return self.sids[socket.sid] if self._is_in(socket) else frozenset()

    async def join(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Put a socket into rooms, if it may, once the adapter has confirmed all of them."""
        new = self._new_rooms(socket, rooms)
        if not new:
            return
        if self.authorization:
            await self.authorization.authorize(socket, new)
            self._check_in(socket)
        run, channels = self._runtime.run, self._channels_of(new)
        await run.acquire(channels)  # for as long as we are here; `_add` holds them for the socket
        try:
            self._add(socket, new)
        finally:
            run.release(channels)

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take a socket out of rooms, but not out of its own."""
        self.leave_all((socket,), rooms)

    async def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        """Take a socket out of every room at once, and close it behind what was sent before."""
        await self.disconnect_all((socket,), code, reason)

    # What commands call, on whichever worker they were given.

    def sockets(self, target: Target) -> list[Socket]:
        """The sockets here that a target addresses."""
        excluded = self._members.excluded(target)
        sids = self._members.select(target.rooms)
        return [self._clients[sid].socket for sid in sids if sid not in excluded]

    def socket(self, sid: Sid) -> Socket | None:
        """The socket here that has a sid."""
        if sid not in self._clients or sid in self._disconnects:
            return None
        return self._clients[sid].socket

    async def join_all(self, sockets: list[Socket], rooms: tuple[Room, ...]) -> None:
        """Put sockets into rooms; those that have left the namespace meanwhile are passed over.

        Those that would be in too many rooms are passed over as well, and then it raises
        `TooManyRooms`, after the others are in.
        """
        if not sockets:
            return  # so that nothing is subscribed to here, where nobody is to join
        run, channels = self._runtime.run, self._channels_of(rooms)
        full: TooManyRooms | None = None
        await run.acquire(channels)
        try:
            async for some in in_slices(sockets):
                for socket in some:
                    try:
                        self._add(socket, self._new_rooms(socket, rooms))
                    except SocketClosed:
                        continue
                    except TooManyRooms as error:
                        full = error
        finally:
            run.release(channels)
        if full is not None:
            raise full

    def leave_all(self, sockets: Iterable[Socket], rooms: tuple[Room, ...]) -> None:
        """Take sockets out of rooms, but not out of their own."""
        channel_of = dict(zip(rooms, self._channels_of(rooms), strict=True))
        released: list[Channel] = []
        for socket in sockets:
            if self._is_in(socket):
                names = [room for room in rooms if room != socket.sid]
                left = self._members.leave(socket.sid, names)
                released += [channel_of[room] for room in left.rooms]
                self.events.left(socket.sid, left)
        self._runtime.release(released)

    def disconnect_all(self, sockets: Iterable[Socket], code: int, reason: str) -> Awaitable[None]:
        """Take sockets out of every room at once, and close them behind what was sent before.

        What it returns is done when all of them have left the namespace, and are being closed.
        """
        pending = []
        for socket in sockets:
            if self._is_in(socket):
                client, left = self._clients[socket.sid], self._members.remove(socket.sid)
                pending.append(PendingDisconnect(client, left, code, reason))
                self._disconnects.add(pending[-1])
        return self._disconnects.close(pending)

    def handle(self, event: str, args: list[Any]) -> Any:
        """Call the handler of a server-side event."""
        handler = self.handlers.get(event)
        if handler is None:
            raise UsageError(f"There is no handler of {event!r} here.")
        return handler(*args)

    def describe(self) -> dict[str, Any]:
        """What there is to know of this worker, in JSON values."""
        return describe(self._runtime.run.cluster.uptime, self._runtime.namespaces.values())

    # What the manager calls.

    def drainables(self) -> list[Drainable]:
        """Every client and listener, to be drained."""
        listeners = (listener.drain for listener in self._listeners.members())
        return [*(client.drain for client in self._clients.values()), *listeners]

    async def close(self) -> None:
        """Forget those who could not be drained in time; the manager is closing."""
        self._disconnects.close_now()
        for transport in self._members.members():
            transport.stop()
        for client in list(self._clients.values()):
            self.exit(client)
        for listener in self._listeners.members():
            listener.close()
        self._fanout.close()
        self._listeners.clear()
        await self.events.close(self._runtime.settings.drain_schedule.timeout)

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone: there is nothing to stop any more."""
        self._fanout = Fanout(self._members)
        self._clients.clear()
        self._disconnects.clear()
        self._members.clear()
        self._listeners.clear()
        self.events.forget()

    # Membership, and the channels it holds.

    def _new_rooms(self, socket: Socket, rooms: tuple[Room, ...]) -> tuple[Room, ...]:
        """Those that the socket is not in yet. Raises `SocketClosed` or `TooManyRooms`."""
        self._check_in(socket)
        mine = self.sids[socket.sid]
        new = tuple(room for room in dict.fromkeys(rooms) if room not in mine)
        if new:
            self._runtime.settings.check_rooms(mine, new)
        return new

    def _add(self, socket: Socket, new: tuple[Room, ...]) -> None:
        """Put a socket into rooms whose channels are held, once more for each that it joins.

        It may have left, or joined some rooms, since `new` was found out.
        """
        self._check_in(socket)
        self._runtime.settings.check_rooms(self.sids[socket.sid], new)
        joined = self._members.join(socket.sid, new)
        self._runtime.run.hold(self._channels_of(joined.rooms))
        self.events.joined(socket.sid, joined)

    def _check_free(self, sid: Sid) -> None:
        if sid in self._clients:
            raise SidInUse(f"A socket of this worker in {self.name} has the sid {sid!r} already.")

    def _is_in(self, socket: Socket) -> bool:
        client = self._clients.get(socket.sid)
        return (
            client is not None and client.socket is socket and socket.sid not in self._disconnects
        )

    def _check_in(self, socket: Socket) -> None:
        if not self._is_in(socket):
            raise SocketClosed(f"{socket} has left: its `connect` block is over.")

    def _channels_of(self, rooms: Iterable[Room]) -> list[Channel]:
        return [self._runtime.channels.of_room(self.name, room) for room in rooms]
