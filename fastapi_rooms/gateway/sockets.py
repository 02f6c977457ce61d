"""The sockets that a client of an edge has there: one in each namespace its endpoint enters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.exceptions import WebSocketException

from fastapi_rooms.core.names import check_namespace, check_rooms
from fastapi_rooms.core.patterns import Patterns
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
from fastapi_rooms.gateway.socket import EdgeSocket, disown, own
from fastapi_rooms.gateway.users import read_users
from fastapi_rooms.namespace import Namespace
from fastapi_rooms.types import NodeId, Room
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

if TYPE_CHECKING:
    from fastapi_rooms.gateway.client import EdgeClient

logger = logging.getLogger("fastapi_rooms")

MAX_JOINS = 100
"""How many joins of a client may be under way; what is asked for beyond that waits."""

MAX_NAMESPACES = 100
"""How many namespaces a client may be in: whoever speaks for a backend is not trusted with more."""

STILL = 1.0
"""Seconds after which the backend is told that a join is still under way."""

Reply = Callable[[dict[str, Any]], None]


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
        """Return when all that was sent to the client is with the server.

        If it was disconnected, it is closed by then, with the code that was said.
        """
        for found in tuple(self._by_namespace.values()):
            await found.namespace._here.written()
            await found.block.transport.flush()
            await found.block.closed_by_others()

    def lost(self) -> None:
        """The client is gone: it leaves every room."""
        for found in tuple(self._by_namespace.values()):
            found.block.lost()

    def abort(self) -> bool:
        """Abort the connection of the client; false if that cannot be."""
        return any(found.block.transport.abort() for found in self._by_namespace.values())

    def take_cancellation_back(self) -> bool:
        """Whether the client's task was cancelled by one of the sockets, and by nobody else."""
        found = [found.block.take_cancellation_back() for found in self._by_namespace.values()]
        return any(found)

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
        self._bring(found)
        disown(found)
        with suppress(RoomsError):
            await found.block.__aexit__(None, None, None)

    def _bring(self, found: EdgeSocket) -> None:
        """A socket is about to leave: the client's next one goes on where it is."""
        if found.block.transport is self._client.framing.transport:
            rooms, position = found.socket.rooms, found.socket.position
            self._client.framing.bring((r, at) for r in rooms if (at := position(r)) is not None)

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
        """Write a message, and return when the server has it; false if there is no socket.

        Raises `MalformedEnvelope` for a text that is none, whether or not there is one.
        """
        payload = _payload(frame)
        found = self._any()
        if found is None or not found.socket._host.is_in(found.socket):
            return False
        await found.block.transport.send(payload)
        return True

    # What the backend asks for.

    def call_at_once(self, call: dict[str, Any]) -> bool:
        """Do what the backend asks, before any broadcast that comes later; false if it has to wait.

        What has left a room hears nothing of it from then on.
        """
        found = self._by_namespace.get(_namespace(call))
        verb = wire.field(call, "verb", str)
        if found is None:
            return False
        if verb == "exit":
            self._bring(found)
            found.is_entered = False  # it knows that it leaves its rooms
            found.namespace._here.exit(found.block)
            return False  # it has still to be stopped
        return self._now(verb, found, call)

    async def call(self, call: dict[str, Any], reply: Reply) -> None:
        """Do what the backend asks, and reply, if that is wanted.

        A join goes on while other things are asked for: it may replay as slowly as the client
        reads. The backend is told that it does.
        """
        number, verb = wire.field(call, "id", int), wire.field(call, "verb", str)
        name = _namespace(call)
        if verb == "join":
            _check_join(call)
        else:
            await self._answer(number, verb, name, call, reply)
            return
        if len(self._joins) >= MAX_JOINS:
            await asyncio.wait(self._joins, return_when=asyncio.FIRST_COMPLETED)
        join = asyncio.create_task(self._answer(number, verb, name, call, reply))
        self._joins.add(join)
        join.add_done_callback(self._joins.discard)
        join.add_done_callback(_Still(partial(reply, {"id": number, "pending": True})).stop)
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
        except MalformedEnvelope:
            raise
        except Exception as error:
            logger.exception("An edge could not do what a backend asked it: %s", verb)
            result = {"error": "away", "text": repr(error)}
        if number:
            reply({"id": number, **result})

    async def _do(self, verb: str, name: str, call: dict[str, Any]) -> dict[str, Any]:
        if verb == "enter":
            sid, data = wire.field(call, "sid", str), wire.field(call, "data", dict)
            await self._enter(name, sid, data, read_users(call))
            for each in self._by_namespace.values():
                each.begin_grace()
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
            since, recent = call.get("since"), call.get("recent")
            return await found.join(_rooms(call), read_users(call), since, recent)
        elif not self._now(verb, found, call):
            raise MalformedEnvelope(f"there is no verb {verb!r}")
        return {}

    def _now(self, verb: str, found: EdgeSocket, call: dict[str, Any]) -> bool:
        """Do what takes no time; false if it is something else."""
        if verb == "leave":
            rooms = _rooms(call)
            # That others had it join may be on its way to the endpoint: then this has to follow.
            with found.claims.at_work(set(rooms) - found.claims.others):
                found.own_joins.leave(rooms)
                found.socket._host.leave(found.socket, rooms)
        elif verb == "data":
            data, users = wire.field(call, "data", dict), read_users(call)
            _replace(found.socket.data, data)
            found.users = users
        elif verb == "watch":
            found.watch(_rooms(call))
        elif verb == "fresh":
            found.leave_unclaimed()
        else:
            return False
        return True

    async def _enter(self, name: str, sid: str, data: dict[str, Any], users: Patterns[str]) -> None:
        if any(found.block.is_being_closed for found in self._by_namespace.values()):
            raise SocketClosed("The client is being closed: it was disconnected.")
        found = self._by_namespace.get(name)
        if found is not None and found.socket.sid == sid and found.here.is_in(found.socket):
            _replace(found.socket.data, data)
            found.users = users
            found.claimed()
            return
        if found is not None:
            del self._by_namespace[name]
            await self._exit(found)
        if len(self._by_namespace) >= MAX_NAMESPACES:
            raise UsageError(f"A client may be in {MAX_NAMESPACES} namespaces behind an edge.")
        namespace: Namespace = self._client.manager.of(name)
        await self._client.reader.pause()  # the transport may change where messages come from
        try:
            framing, websocket = self._client.framing, self._client.websocket
            block = EdgeConnection(namespace._here, websocket, sid, data, framing)
            await block.__aenter__()
        finally:
            self._client.read_on()
        found = self._by_namespace[name] = EdgeSocket(self, namespace, block)
        found.users = users
        own(found)

    @property
    def backend(self) -> NodeId | None:
        """The backend of the client now."""
        return self._client.backend

    def reopen(self) -> None:
        """Have the client's endpoint opened again."""
        self._client.reopen()

    def tell(self, event: str, found: EdgeSocket, room: Room) -> None:
        """Tell the backend what has happened to a socket, other than by its endpoint."""
        if not found.is_entered:
            return  # it is told as it enters
        position = found.socket.position(room)
        said = {"event": event, "namespace": found.namespace.name, "room": room}
        body = wire.to_json(said if position is None else {**said, "position": position})
        self._client.post(FrameKind.EVENT, body)

    def tell_rooms(self, found: EdgeSocket, rooms: list[Room]) -> None:
        """Tell the backend, before it is told that its endpoint has entered, where it is in."""
        told = {room: found.socket.position(room) for room in rooms}
        said = {"event": "rooms", "namespace": found.namespace.name, "rooms": told}
        self._client.post(FrameKind.EVENT, wire.to_json(said))

    def tell_positions(self) -> None:
        """Tell the backend of the positions that its endpoint wants to know."""
        for found in self._by_namespace.values():
            for room, _ in found.moved():
                self.tell("position", found, room)


class _Still:
    """Tells now and then that something is still being done."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell_once = tell
        self._timer = asyncio.get_running_loop().call_later(STILL, self._tell)

    def _tell(self) -> None:
        self._tell_once()
        self._timer = asyncio.get_running_loop().call_later(STILL, self._tell)

    def stop(self, _: object) -> None:
        """It is done."""
        self._timer.cancel()


def _check_join(call: dict[str, Any]) -> None:
    since, recent = call.get("since"), call.get("recent")
    _rooms(call)
    read_users(call)
    if not (since is None or isinstance(since, str)):
        raise MalformedEnvelope("a position is a text")
    if not (recent is None or type(recent) is int):
        raise MalformedEnvelope("recent is a number")


def _namespace(call: dict[str, Any]) -> str:
    try:
        return check_namespace(wire.field(call, "namespace", str))
    except RoomsError as error:
        raise MalformedEnvelope(str(error)) from error


def _rooms(call: dict[str, Any]) -> tuple[Room, ...]:
    try:
        return check_rooms(tuple(wire.field(call, "rooms", list)))
    except UsageError as error:
        raise MalformedEnvelope(str(error)) from error


def _replace(data: dict[str, Any], new: dict[str, Any]) -> None:
    data.clear()
    data.update(new)


def _payload(frame: Frame) -> Payload:
    binary = frame.kind is FrameKind.BYTES
    payload = Payload(frame.body, binary=binary)
    if not binary:
        try:
            _ = payload.text  # decodes it: clients fail over text that is not UTF-8
        except UnicodeDecodeError as error:
            raise MalformedEnvelope("a text is not UTF-8") from error
    return payload
