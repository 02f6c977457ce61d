"""The sockets that a client of an edge has there: one in each namespace its endpoint enters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from starlette.exceptions import WebSocketException

from fastapi_rooms.core.names import check_namespace, check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.errors import (
    AdapterUnavailable,
    MalformedEnvelope,
    RoomsError,
    ShuttingDown,
    SidInUse,
    SocketClosed,
    TooManyRooms,
    UsageError,
)
from fastapi_rooms.gateway.framing import EdgeConnection
from fastapi_rooms.namespace import Namespace
from fastapi_rooms.types import Room
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from fastapi_rooms.worker.resume import Joined
from fastapi_rooms.worker.socket import Socket

if TYPE_CHECKING:
    from fastapi_rooms.gateway.client import EdgeClient

GRACE = 10.0
"""Seconds that the rooms of an earlier endpoint are kept for the next to join them again."""

MAX_JOINS = 100
"""How many joins of a client may be under way; what is asked for beyond that waits."""

STILL = 1.0
"""Seconds after which the backend is told that a join is still under way."""

Reply = Callable[[dict[str, Any]], None]

_owners: WeakKeyDictionary[Socket, EdgeSocket] = WeakKeyDictionary()
"""Which sockets of this process are those of an edge's clients: for the handlers of events."""


class EdgeSocket:
    """A socket, in one namespace."""

    def __init__(self, owner: EdgeSockets, namespace: Namespace, block: EdgeConnection) -> None:
        self.owner = owner
        self.namespace = namespace
        self.block = block
        self.socket = block.socket
        self.own: set[Room] = set()
        """Rooms that its endpoint is joining or leaving now, and knows itself."""
        self.unclaimed: set[Room] = set()
        """Rooms of the endpoint before, which this one has not joined yet."""
        self.grace: asyncio.TimerHandle | None = None
        self.joining = asyncio.Lock()
        """Held by a join of rooms with a history: a second one of the same would double them."""
        self._told: dict[Room, str | None] = {}
        self._recovered: dict[Room, bool | None] = {}

    def joined(self, rooms: tuple[Room, ...], joined: Joined) -> None:
        """It has joined; whether what it had missed is there is known to later endpoints, too."""
        self._recovered |= dict.fromkeys(rooms, joined.recovered)

    def joined_before(self, rooms: tuple[Room, ...], joined: Joined) -> Joined:
        """It is in these still, and has missed nothing meanwhile."""
        found = {self._recovered.get(room) for room in rooms}
        recovered = next((known for known in (False, True) if known in found), None)
        return replace(joined, recovered=recovered)

    def left(self, room: Room) -> None:
        """It has left a room."""
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
        self.unclaimed = {room for room in self.socket.rooms if room != self.socket.sid}

    def claimed(self) -> None:
        """The endpoint has entered: its time to claim rooms runs."""
        self._stop_grace()
        if self.unclaimed:
            loop = asyncio.get_running_loop()
            self.grace = loop.call_later(GRACE, self.leave_unclaimed)

    def leave_unclaimed(self) -> None:
        """Leave what was not claimed."""
        self._stop_grace()
        rooms, self.unclaimed = tuple(self.unclaimed), set()
        if rooms:
            self.socket._host.leave(self.socket, rooms)

    def _stop_grace(self) -> None:
        if self.grace is not None:
            self.grace.cancel()
            self.grace = None


class EdgeSockets:
    """All of one client."""

    def __init__(self, client: EdgeClient) -> None:
        self._client = client
        self._by_namespace: dict[str, EdgeSocket] = {}
        self._joins: set[asyncio.Task[None]] = set()

    def kept(self) -> dict[str, Any]:
        """The data of each, by namespace: for the next endpoint."""
        return {name: found.socket.data for name, found in self._by_namespace.items()}

    async def settled(self) -> None:
        """Return when what an endpoint has asked for is done."""
        while self._joins:
            await asyncio.wait(self._joins)

    def begin_attempt(self) -> None:
        """Another endpoint begins."""
        for found in self._by_namespace.values():
            found.begin_attempt()

    async def flush(self) -> None:
        """Return when all that was sent to the client is with the server, or it has no time."""
        for found in tuple(self._by_namespace.values()):
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await found.socket._host.written()  # type: ignore[attr-defined]  # not of every host
                    await found.block.transport.flush()

    async def close(self) -> None:
        """The client is over: it leaves everything."""
        for task in self._joins:
            task.cancel()
        if self._by_namespace:
            _, found = self._by_namespace.popitem()
            try:
                await self._exit(found)
            finally:
                await self.close()

    async def _exit(self, found: EdgeSocket) -> None:
        found._stop_grace()
        if found.block.transport is self._client.framing.transport:
            rooms, position = found.socket.rooms, found.socket.position
            self._client.framing.bring((r, at) for r in rooms if (at := position(r)) is not None)
        _owners.pop(found.socket, None)
        with suppress(RoomsError):
            await found.block.__aexit__(None, None, None)

    # Messages to the client alone.

    def _any(self) -> EdgeSocket | None:
        return next(iter(self._by_namespace.values()), None)

    def write_at_once(self, frame: Frame) -> bool:
        """Write a message now, before any broadcast that comes later; false if it has to wait."""
        found = self._any()
        if found is None or not found.socket._host.is_in(found.socket):
            return False
        transport = found.block.transport
        if transport.pending + len(frame.body) > transport.policy.max_bytes // 2:
            return False
        transport.write(_payload(frame))
        return True

    async def write(self, frame: Frame) -> bool:
        """Write a message, and return when the server has it; false if there is no socket."""
        found = self._any()
        if found is None or not found.socket._host.is_in(found.socket):
            return False
        await found.block.transport.send(_payload(frame))
        return True

    # What the backend asks for.

    async def call(self, call: dict[str, Any], reply: Reply) -> None:
        """Do what the backend asks, and reply, if that is wanted.

        A join goes on while other things are asked for: it may replay as slowly as the client
        reads. The backend is told that it does.
        """
        number, verb = wire.field(call, "id", int), wire.field(call, "verb", str)
        name = check_namespace(wire.field(call, "namespace", str))
        if verb != "join":
            await self._answer(number, verb, name, call, reply)
            return
        if len(self._joins) >= MAX_JOINS:
            await asyncio.wait(self._joins, return_when=asyncio.FIRST_COMPLETED)
        join = asyncio.create_task(self._answer(number, verb, name, call, reply))
        self._joins.add(join)
        join.add_done_callback(self._joins.discard)
        _tell_while(join, partial(reply, {"id": number, "pending": True}))
        await asyncio.sleep(0)  # it has begun, so that a leave that follows comes after it

    async def _answer(
        self, number: int, verb: str, name: str, call: dict[str, Any], reply: Reply
    ) -> None:
        result: dict[str, Any] = {}
        try:
            result = await self._do(verb, name, call)
        except SidInUse as error:
            result = {"error": "sid", "text": str(error)}
        except TooManyRooms as error:
            result = {"error": "rooms", "rooms": error.rooms, "limit": error.limit}
        except SocketClosed as error:
            result = {"error": "closed", "text": str(error)}
        except UsageError as error:
            result = {"error": "usage", "text": str(error)}
        except (AdapterUnavailable, ShuttingDown, WebSocketException) as error:
            result = {"error": "away", "text": str(error)}
        if number:
            reply({"id": number, **result})

    async def _do(self, verb: str, name: str, call: dict[str, Any]) -> dict[str, Any]:
        if verb == "enter":
            sid, data = wire.field(call, "sid", str), wire.field(call, "data", dict)
            await self._enter(name, sid, data)
            framed = self._client.framing.transport
            is_framed = framed is not None and framed is self._by_namespace[name].block.transport
            return {"alias": framed.alias} if framed is not None and is_framed else {}
        found = self._by_namespace.get(name)
        if found is None:
            if verb == "join":
                raise SocketClosed("The socket has left: it was disconnected.")
            return {}
        if verb == "exit":
            del self._by_namespace[name]
            await self._exit(found)
        elif verb == "join":
            return await self._join(found, call)
        elif verb == "leave":
            rooms = _rooms(call)
            found.own |= set(rooms)
            found.unclaimed -= found.own
            try:
                found.socket._host.leave(found.socket, rooms)
            finally:
                found.own -= set(rooms)
        elif verb == "data":
            _replace(found.socket.data, wire.field(call, "data", dict))
        elif verb == "watch":
            found.watch(_rooms(call))
        elif verb == "fresh":
            found.leave_unclaimed()
        else:
            raise MalformedEnvelope(f"there is no verb {verb!r}")
        return {}

    async def _enter(self, name: str, sid: str, data: dict[str, Any]) -> None:
        found = self._by_namespace.get(name)
        if found is not None and found.socket.sid == sid:
            _replace(found.socket.data, data)
            found.claimed()
            return
        if found is not None:
            del self._by_namespace[name]
            await self._exit(found)
        namespace: Namespace = self._client.manager.of(name)
        _watch(namespace)
        await self._client.reader.pause()  # the transport may change where messages come from
        try:
            framing, websocket = self._client.framing, self._client.websocket
            block = EdgeConnection(namespace._here, websocket, sid, data, framing)
            socket = await block.__aenter__()
        finally:
            self._client.read_on()
        found = self._by_namespace[name] = EdgeSocket(self, namespace, block)
        _owners[socket] = found

    async def _join(self, found: EdgeSocket, call: dict[str, Any]) -> dict[str, Any]:
        rooms = _rooms(call)
        since, recent = call.get("since"), call.get("recent")
        keeps = found.namespace._here.recovery.keeps
        if not (since is None or isinstance(since, str)):
            raise MalformedEnvelope("a position is a text")
        if not (recent is None or type(recent) is int):
            raise MalformedEnvelope("recent is a number")
        found.own |= set(rooms)
        found.unclaimed -= found.own
        try:
            async with found.joining if any(map(keeps, rooms)) else nullcontext():
                if found.socket.rooms >= set(rooms):  # it is in still, and has missed nothing
                    joined = found.joined_before(rooms, await found.socket.join(*rooms))
                else:
                    joined = await found.socket.join(*rooms, since=since, recent=recent)
                    found.joined(rooms, joined)
                return asdict(joined)
        finally:
            found.own -= set(rooms)

    def tell(self, event: str, found: EdgeSocket, room: Room) -> None:
        """Tell the backend what has happened to a socket, other than by its endpoint."""
        position = found.socket.position(room)
        said = {"event": event, "namespace": found.namespace.name, "room": room}
        body = wire.to_json(said if position is None else {**said, "position": position})
        self._client.post(FrameKind.EVENT, body)

    def tell_positions(self) -> None:
        """Tell the backend of the positions that its endpoint wants to know."""
        for found in self._by_namespace.values():
            for room, _ in found.moved():
                self.tell("position", found, room)


def _tell_while(doing: asyncio.Task[None], tell: Callable[[], None]) -> None:
    """Tell now and then, as long as something is being done."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def still() -> None:
        nonlocal timer
        tell()
        timer = loop.call_later(STILL, still)

    timer = loop.call_later(STILL, still)
    doing.add_done_callback(lambda _: timer.cancel())


def _rooms(call: dict[str, Any]) -> tuple[Room, ...]:
    return check_rooms(tuple(wire.field(call, "rooms", list)))


def _replace(data: dict[str, Any], new: dict[str, Any]) -> None:
    data.clear()
    data.update(new)


def _payload(frame: Frame) -> Payload:
    binary = frame.kind is FrameKind.BYTES
    payload = Payload(frame.body, binary=binary)
    if not binary:
        try:
            payload.text  # noqa: B018 -- decodes it: clients fail over text that is not UTF-8
        except UnicodeDecodeError as error:
            raise MalformedEnvelope("a text is not UTF-8") from error
    return payload


def _joined(room: Room, socket: Socket) -> None:
    _tell("join-room", room, socket)


def _left(room: Room, socket: Socket) -> None:
    _tell("leave-room", room, socket)
    if (found := _owners.get(socket)) is not None:
        found.left(room)


def _tell(event: str, room: Room, socket: Socket) -> None:
    found = _owners.get(socket)
    if found is not None and room not in found.own:
        found.owner.tell(event, found, room)


def _watch(namespace: Namespace) -> None:
    """Have us told of what happens to sockets of a namespace: once for each."""
    handlers = namespace._here.events.handlers
    if _joined not in handlers.of("join-room"):
        handlers.on("join-room")(_joined)
        handlers.on("leave-room")(_left)
