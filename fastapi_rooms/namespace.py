"""A namespace: its own rooms and sids, and the verbs over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Any, Self

from starlette.websockets import WebSocket

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.clusterwide import ClusterWide
from fastapi_rooms.connection import Connection
from fastapi_rooms.envelope import Target
from fastapi_rooms.errors import SidInUse, SocketClosed, TooManyRooms, UsageError
from fastapi_rooms.events import EventName, Events, Gap, Handler
from fastapi_rooms.fanout import Delivery, Fanout
from fastapi_rooms.frames import Payload
from fastapi_rooms.guards import Guard, Guards, check_pattern
from fastapi_rooms.leaving import Farewells, Guest
from fastapi_rooms.listener import Listener
from fastapi_rooms.membership import Left, Membership
from fastapi_rooms.names import check_room, check_rooms, new_sid
from fastapi_rooms.outbox import OutboxPolicy
from fastapi_rooms.runtime import Runtime
from fastapi_rooms.socket import Socket
from fastapi_rooms.transports import Transport, open_transport
from fastapi_rooms.types import Channel, Room, Sid


class Namespace(ClusterWide):
    """Sockets and rooms that know nothing of those in other namespaces.

    It is a dependency too: `Annotated[Namespace, Depends(rooms.of("/chat"))]`.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name, runtime)
        self._sockets: dict[Sid, Socket] = {}
        self._members: Membership[Transport] = Membership()
        self._farewells = Farewells(self._sockets, self._members, self.written)
        self._fanout = Fanout(self._members)
        self._listeners: Membership[Listener] = Membership()
        self._events = Events()
        self._guards = Guards()
        self.guarded = False
        """Whether anyone asked, by `authorize`, to be asked before a socket joins."""
        self._channel = runtime.channels.of_namespace(name)
        runtime.namespaces[name] = self

    async def __call__(self) -> Self:
        """What `Depends` calls: the namespace itself."""
        return self

    @property
    def rooms(self) -> Mapping[Room, AbstractSet[Sid]]:
        """This worker's rooms and the sids in them: a live, read-only view."""
        return self._members.rooms

    @property
    def sids(self) -> Mapping[Sid, AbstractSet[Room]]:
        """This worker's sids and the rooms they are in: a live, read-only view."""
        return self._members.sids

    @property
    def outbox(self) -> OutboxPolicy:
        """What happens to sockets and listeners that do not keep up."""
        return self._runtime.settings.outbox

    def connect(
        self,
        websocket: WebSocket,
        *,
        sid: Sid | None = None,
        data: dict[str, Any] | None = None,
        subprotocol: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> Connection:
        """Bring a client in for the time of an `async with` block, which gives its `Socket`.

        Accepts the connection unless it is accepted already. At the end of the block, whichever
        way it ends, the socket has left every room. The block ends quietly when the client goes
        (`WebSocketDisconnect`); when the client sends what cannot be read (`InvalidMessage`: closed
        with 1003 or 1007); and when the adapter is unavailable (closed with 1013).

        Args:
            websocket: Starlette's object, which stays yours: read from it and write to it freely.
            sid: an id of your own choice for the socket, else one that nobody can guess is drawn.
            data: what to know the socket by; JSON values.
            subprotocol: the one to accept the connection with.
            headers: more headers to accept it with.

        Raises:
            NotStarted: the manager is not running.
            InvalidRoomName: `sid` is not a string of 1 to 255 UTF-8 bytes.
            SidInUse: a socket of this worker has that sid.
        """
        node = self._runtime.node
        sid = new_sid(node) if sid is None else check_room(sid)
        return Connection(self, websocket, sid, {} if data is None else data, subprotocol, headers)

    @asynccontextmanager
    async def listen(
        self, *names: Room, outbox: OutboxPolicy | None = None
    ) -> AsyncIterator[Listener]:
        """Hear what is sent to some rooms, without a socket, for the time of an `async with` block.

        What is sent to everyone in the namespace is not heard; a message to several of the rooms is
        heard once.

        Args:
            names: the rooms, at least one.
            outbox: how much may wait for this listener and what happens past that; the manager's
                policy when left out. `close` ends the iteration with `ListenerOverflow`.

        Raises:
            AdapterUnavailable: the adapter did not confirm the rooms within the join timeout.
            ShuttingDown: this worker is leaving. A listener that is there already ends by that.
        """
        if not names:
            raise UsageError("listen() needs the name of at least one room.")
        rooms = tuple(dict.fromkeys(check_rooms(names)))
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

    def on(self, event: EventName) -> Callable[[Handler], Handler]:
        """Decorate a handler, plain or async, of what happens on this worker.

        | event | handler gets | when |
        |---|---|---|
        | `connect`, `disconnect` | the `Socket` | it has come in; it has left every room |
        | `create-room`, `delete-room` | the room | its first member is in; its last has left |
        | `join-room`, `leave-room` | the room and the sid | a socket has joined or left |
        | `gap` | a `Gap` | messages from other workers may have been missed |

        The room that a socket has by its own sid makes no events. A handler that raises is logged
        and harms nothing else. Raises `ConfigurationError` for an event that does not exist.
        """
        return self._events.on(event)

    def authorize(self, pattern: str = "*") -> Callable[[Guard], Guard]:
        """Have a handler asked before a socket of this namespace joins certain rooms.

            @rooms.authorize("private-*")
            async def is_member(socket: Socket, room: str) -> bool:
                return await membership.exists(user=socket.data["user"], room=room)

        It may be plain or async, and is called with the socket and the name of one room, for every
        room that `socket.join` names and the socket is not in yet, before the adapter is asked for
        any of them. It lets the socket in by an answer that is true. Where several patterns match,
        every handler has to; they are asked in the order of their registration. A room that no
        pattern matches is open to everyone.

        Else `join` raises `JoinRefused` and nothing is joined; unless the endpoint catches it, the
        socket is closed with 1008. A handler that raises has not let anyone in: that is logged, and
        the join is refused. One that raises a `ClientError` (`JoinRefused("room", "banned")`) says
        by it what the client is told.

        Only `socket.join` asks. A socket's own sid, `rooms.listen` and what the application decides
        for its sockets from elsewhere need no leave.

        Args:
            pattern: a room's name; or how names begin, followed by a `*` that stands for any rest,
                the empty one too. A `*` elsewhere stands for itself. Names are compared as they
                are: no case is folded, nothing is normalized.

        Raises:
            ConfigurationError: the pattern matches no name that a room can have.
        """

        def register(guard: Guard) -> Guard:
            self._guards.add(pattern, guard)
            self.guarded = True
            return guard

        check_pattern(pattern)
        return register

    async def deliver(
        self, target: Target, payload: Payload, *, local: bool, volatile: bool
    ) -> None:
        """Deliver here first, then to the other workers. Operators call this."""
        runtime = self._runtime
        runtime.check(payload)
        if target.rooms == ():
            return
        delivery = self.deliver_here(target, payload, volatile=volatile)
        try:
            if local or runtime.alone:
                pass
            elif volatile:
                runtime.publish_volatile(self.name, target, payload)
            else:
                await runtime.publish(self.name, target, payload)
        finally:
            if delivery is not None:
                await delivery.written()
        if runtime.uses_up_turn(payload):
            await asyncio.sleep(0)

    def deliver_here(self, target: Target, payload: Payload, *, volatile: bool) -> Delivery | None:
        """Deliver to this worker's members and listeners: both halves of a broadcast end here."""
        if self._listeners and target.rooms is not None:
            for listener in self._listeners.resolve(target):
                listener.offer(target, payload)
        return self._fanout.write(target, payload, volatile=volatile)

    # What the verbs need of a namespace, on whichever worker they are asked.

    @property
    def _here(self) -> Namespace:
        return self

    def sockets(self, target: Target) -> list[Socket]:
        """The sockets here that a target addresses."""
        excluded = self._members.excluded(target)
        return [self._sockets[s] for s in self._members.select(target.rooms) if s not in excluded]

    def socket(self, sid: Sid) -> Socket | None:
        """The socket here that has a sid."""
        return self._sockets.get(sid)

    async def put(self, sockets: list[Socket], rooms: tuple[Room, ...]) -> None:
        """Put sockets into rooms, once for all of them; those that have gone are left out.

        Those that would be in too many rooms are left out as well, and then it raises
        `TooManyRooms`, after the others are in.
        """
        channels = self._channels_of(rooms)
        full: TooManyRooms | None = None
        await self._runtime.acquire(channels)
        try:
            for socket in sockets:
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

    def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        """Take a socket out of every room, and close it once it has what was sent before."""
        socket.dismiss(code, reason)

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
        self._events.emit("connect", socket)

    def exit(self, socket: Socket) -> bool:
        """Take a socket out of every room; returns whether it was in. Does not wait."""
        if self._sockets.get(socket.sid) is not socket:
            return False
        del self._sockets[socket.sid]
        left = self._members.remove(socket.sid)
        self._runtime.release((self._channel, *self._channels_of(left.rooms)))
        self._announce_left(socket, left)
        self._events.emit("disconnect", socket)
        self._farewells.gone(socket)
        return True

    async def written(self) -> None:
        """Return when every broadcast that was sent before is with the sockets it is for."""
        await self._fanout.written()

    def rooms_of(self, socket: Socket) -> AbstractSet[Room]:
        """The rooms a socket is in: none once it has left, whoever has its sid then."""
        return self.sids[socket.sid] if self._sockets.get(socket.sid) is socket else frozenset()

    async def admit(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Ask the handlers of `authorize` about the rooms the socket is not in yet."""
        self._check_in(socket)
        mine = self.rooms_of(socket)
        await self._guards.ask(socket, [r for r in dict.fromkeys(rooms) if r not in mine])

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
            self._events.emit("create-room", room)
        for room in joined.rooms:
            self._events.emit("join-room", room, socket.sid)

    def leave(self, socket: Socket, rooms: tuple[Room, ...]) -> None:
        """Take a socket out of rooms, but not out of its own."""
        if self._sockets.get(socket.sid) is not socket:
            return
        left = self._members.leave(socket.sid, (room for room in rooms if room != socket.sid))
        self._runtime.release(self._channels_of(left.rooms))
        self._announce_left(socket, left)

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
            self._events.emit("gap", Gap(outage.since, outage.until, rooms))

    def guests(self) -> list[Guest]:
        """Everyone inside, to be seen out; the manager is leaving."""
        listeners = (listener.see_out for listener in self._listeners.members())
        return [*self._farewells.guests(), *listeners]

    async def close(self) -> None:
        """Forget those who could not be seen out; the manager is closing."""
        for transport in self._members.members():
            transport.stop()
        for socket in list(self._sockets.values()):
            self.exit(socket)
        for listener in self._listeners.members():
            listener.close()
        self._fanout.close()
        self._listeners.clear()
        await self._events.close(self._runtime.settings.departures.timeout)

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone: there is nothing to stop any more."""
        self._fanout = Fanout(self._members)
        self._sockets.clear()
        self._members.clear()
        self._listeners.clear()
        self._events.forget()

    def _announce_left(self, socket: Socket, left: Left) -> None:
        for room in left.rooms:
            if room != socket.sid:
                self._events.emit("leave-room", room, socket.sid)
        for room in left.deleted:
            if room != socket.sid:
                self._events.emit("delete-room", room)

    def _check_free(self, sid: Sid) -> None:
        if self._sockets.get(sid) is not None:
            raise SidInUse(f"A socket of this worker in {self.name} has the sid {sid!r} already.")

    def _check_in(self, socket: Socket) -> None:
        if self._sockets.get(socket.sid) is not socket:
            raise SocketClosed(f"{socket} has left: its `connect` block is over.")

    def _channels_of(self, rooms: Iterable[Room]) -> list[Channel]:
        return [self._runtime.channels.of_room(self.name, room) for room in rooms]
