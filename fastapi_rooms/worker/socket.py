"""One client, as its endpoint sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import (
    ABNORMAL_CLOSURE,
    INVALID_DATA,
    NO_STATUS,
    UNSUPPORTED_DATA,
    check_close,
)
from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import ClientError, InvalidMessage
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.servers import edge_of
from fastapi_rooms.transports.base import Transport
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.compressing import compressing, is_to_be_compressed_in_steps
from fastapi_rooms.worker.resume import Joined, Resume
from fastapi_rooms.worker.socket_host import SocketHost

if TYPE_CHECKING:
    from fastapi_rooms.namespace import Namespace

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Socket:
    """A client's connection in a namespace, from `rooms.connect` to the end of its block."""

    __slots__ = (
        "__weakref__",
        "_host",
        "_in_turn",
        "_transport",
        "data",
        "is_lost",
        "sid",
        "websocket",
    )

    def __init__(
        self,
        host: SocketHost,
        websocket: WebSocket,
        transport: Transport,
        sid: Sid,
        data: dict[str, Any],
    ) -> None:
        self._host = host
        self._transport = transport
        self._in_turn: asyncio.Lock | None = None
        self.websocket = websocket
        """Starlette's object, for headers, query parameters, the client's address, `close`."""
        self.sid = sid
        """This socket's id, and the name of a room that only it is in unless you put others in."""
        self.data = data
        """What the application knows of this socket: JSON values. Behind an edge none but those."""
        self.is_lost = False
        """Whether the connection is known to be lost. Then it is in no room, and joins none."""

    @property
    def rooms(self) -> AbstractSet[Room]:
        """The rooms it is in, its sid among them: a live, read-only view; empty when it left."""
        return self._host.rooms_of(self)

    @property
    def namespace(self) -> Namespace:
        """The namespace it is in: of the manager that runs here, if several share a handler."""
        return self._host.namespace

    @property
    def transport(self) -> str:
        """How messages reach this client: `asgi` or `uvicorn`."""
        return self._transport.name

    @property
    def pending(self) -> int:
        """Bytes that wait for this client to read, as `OutboxPolicy.max_bytes` counts them.

        Each message that is queued counts its length and 256 bytes; what the server's own buffer
        holds, where that is known, its length.
        """
        return self._transport.pending

    @property
    def dropped(self) -> int:
        """How many messages this client missed because it did not keep up."""
        return self._transport.dropped

    async def join(
        self, *names: Room, since: str | None = None, recent: int | None = None
    ) -> Joined:
        """Join rooms: all of them, or none if this raises.

        Returns when this worker is sure to receive what is sent to those rooms from then on. A room
        that the socket leaves meanwhile, or is taken out of by `sockets_leave`, is not joined, as
        if that had come a moment later.

        Of one room with a history, what was sent before can be had, and then what follows, without
        a hole or a double in between. A long replay takes as long as the client reads, and so
        does the join. A client that speaks the framing brings its positions itself, for any rooms.

        Args:
            names: the rooms.
            since: a position in it, from `socket.position` or a message's `position`. What was sent
                since then is sent to this socket first, all of it or, where that is not known any
                more, nothing: see `Joined.recovered`. A text that is no position is one that is
                gone. `recent` is ignored where this succeeds.
            recent: how many of the last messages are sent to this socket first.

        Raises:
            UsageError: `since` or `recent` is given for a room without a history, for several
                rooms, or for one that the socket is in.
            InvalidRoomName: a name is not a string of 1 to 255 UTF-8 bytes.
            JoinRefused: a handler of `rooms.authorize` did not allow it; `rooms.connect` closes
                with 1008 by it.
            TooManyRooms: it would be in more than `max_rooms_per_socket`; 1008 as well.
            AdapterUnavailable: the adapter did not confirm them within the join timeout.
            SocketClosed: this socket's `connect` block is over, or it was disconnected.

        A socket whose connection is lost joins nothing, and nothing is raised, so that its endpoint
        can go on with what the client has sent before.
        """
        try:
            return await self._host.join(self, check_rooms(names), Resume(since, recent))
        except ClientError as error:
            raise self._own(error) from error.__cause__

    @property
    def attempt(self) -> int:
        """How many endpoints this client has had before on the same connection.

        Always 0 without an edge. An edge opens another endpoint when the backend of one is gone,
        or the client may have missed something.
        """
        edge = edge_of(self.websocket.scope)
        return 0 if edge is None else edge.attempt

    async def fresh(self) -> None:
        """Leave at once the rooms that an earlier endpoint has joined, and this one has not.

        An edge keeps them for 10 s, so that an endpoint can join them again without a hole. Those
        that others had the socket join, by `sockets_join`, are in `rooms`, and stay.
        Does nothing where there was no earlier endpoint.
        """
        edge = edge_of(self.websocket.scope)
        if edge is not None and edge.attempt:
            edge.tell("fresh", namespace=self._host.name)

    def position(self, room: Room) -> str | None:
        """Up to where this socket has been sent what was said in a room with a history.

        Give it as `since` to go on from there, on any worker. `None` in a room without a history,
        and in one that the socket is not in. In a backend it is as of the join, or of the client's
        last message: who goes on from it may get again what came since.
        """
        return self._host.position_of(room) if room in self.rooms else None

    async def leave(self, *names: Room) -> None:
        """Leave rooms; those it is not in do not matter. A socket's own room is not left."""
        self._host.leave(self, check_rooms(names))

    async def disconnect(self, code: int = 1000, reason: str = "") -> None:
        """Close this client, once it has what was sent to it before.

        The socket has left every room when this returns, and takes nothing more: sending to it
        raises `WebSocketDisconnect`. Its endpoint ends as when the client goes. Harmless when it
        has left already.

        Raises:
            UsageError: this code or reason cannot be sent.
        """
        check_close(code, reason)
        await self._host.disconnect(self, code, reason)

    def to(self, *names: Room) -> BroadcastOperator:
        """Address rooms or sids, leaving this socket out."""
        return self.broadcast.to(*names)

    @property
    def broadcast(self) -> BroadcastOperator:
        """Address everyone in the namespace but this socket."""
        return BroadcastOperator(self._host, Target(except_=(self.sid,)))

    async def send_text(self, data: str) -> None:
        """Send text to this client, behind the broadcasts whose sends have returned.

        It waits for a client that is behind, but not for broadcasts that this worker has still to
        write: see `Health.lag`. If it is cancelled, by a timeout say, the message is not sent any
        more, unless the server has it.

        Raises:
            WebSocketDisconnect: the client is gone, the socket was disconnected, or its `connect`
                block is over; `rooms.connect` ends quietly by it.
            MessageTooLarge: it is longer than an edge takes, 64 MiB, and this is in a backend.
            TypeError: it is no `str`.
        """
        await self._send(Payload.of_text(data))

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to this client, as `send_text` does text."""
        await self._send(Payload.of_bytes(data))

    async def send_json(self, data: Any) -> None:
        """Send a value as JSON, in a text message: see `BroadcastOperator.send_json`."""
        await self._send(Payload.of_json(data, self._host.json))

    async def wait_closed(self) -> None:
        """Return when the client is gone; what it sends meanwhile is read and ignored.

        For endpoints that only push: a task of theirs sends, and this tells when to end. Nothing
        else may read meanwhile, as it would miss what this has read.
        """
        with suppress(WebSocketDisconnect):
            while True:
                await self._receive()

    async def receive_text(self) -> str:
        """The client's next message.

        Raises:
            WebSocketDisconnect: the client is gone; `rooms.connect` ends quietly by it.
            InvalidMessage: it sent bytes; `rooms.connect` closes with 1003 by it.
        """
        return self._read(_text_of, await self._receive())

    async def receive_bytes(self) -> bytes:
        """The client's next message, as `receive_text`, for bytes."""
        return self._read(_bytes_of, await self._receive())

    async def receive_json(self) -> Any:
        """The client's next message, read as JSON whether it came as text or bytes.

        Raises:
            WebSocketDisconnect: the client is gone; `rooms.connect` ends quietly by it.
            InvalidMessage: it is not JSON; `rooms.connect` closes with 1007 by it.
        """
        return self._read(self._json_of, await self._receive())

    def iter_text(self) -> AsyncIterator[str]:
        """The client's messages, as `receive_text` gives them; ends when the client is gone."""
        return _Messages(self, self._transport.receive, _text_of)

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """The client's messages, as `receive_bytes` gives them; ends when the client is gone."""
        return _Messages(self, self._transport.receive, _bytes_of)

    def iter_json(self) -> AsyncIterator[Any]:
        """The client's messages, as `receive_json` gives them; ends when the client is gone."""
        return _Messages(self, self._transport.receive, self._json_of)

    async def _send(self, payload: Payload) -> None:
        is_long = is_to_be_compressed_in_steps((self._transport,), payload)
        if self._in_turn is None and not is_long:
            await self._send_now(payload)
            return
        # From the first long message on, as others could overtake one while it is compressed.
        self._in_turn = self._in_turn or asyncio.Lock()
        async with self._in_turn:
            self._check_in()
            for _ in compressing((self._transport,), payload):
                await asyncio.sleep(0)
            await self._send_now(payload)

    async def _send_now(self, payload: Payload) -> None:
        self._check_in()
        try:
            await self._transport.send(payload)
        except WebSocketDisconnect as error:
            raise self._own(error) from None

    def _check_in(self) -> None:
        if self.is_lost:  # there are servers that would take it all the same
            raise self._own(WebSocketDisconnect(ABNORMAL_CLOSURE, "the client is gone"))
        if not self._host.is_in(self):  # it may be open until the client has taken what waits
            raise self._own(WebSocketDisconnect(ABNORMAL_CLOSURE, has_left(self)))

    def _own(self, error: E) -> E:
        """The error, which says that it is about this socket."""
        error.socket = self  # type: ignore[attr-defined]  # Starlette's has no such attribute
        return error

    async def _receive(self) -> Message:
        self._check_there()
        return self._unless_gone(await self._transport.receive())

    def _read(self, read: Callable[[Message], T], message: Message) -> T:
        try:
            return read(message)
        except InvalidMessage as error:
            raise self._own(error) from error.__cause__

    def _json_of(self, message: Message) -> Any:
        data = message.get("text")
        if data is None:
            data = message.get("bytes") or b""
        try:
            return self._host.json.loads(data)
        except ValueError as error:
            raise InvalidMessage(f"Expected JSON: {error}", code=INVALID_DATA) from error

    def _check_there(self) -> None:
        # `websocket.receive_text` refuses to read once a send has found the client gone; reading on
        # to the disconnect message is what ends the endpoint in order, with the client's code.
        if self.websocket.client_state is WebSocketState.DISCONNECTED:
            raise self._own(WebSocketDisconnect(ABNORMAL_CLOSURE))

    def _unless_gone(self, message: Message) -> Message:
        if message["type"] == "websocket.disconnect":
            self.websocket.client_state = WebSocketState.DISCONNECTED
            self._host.lost(self)
            code, reason = message.get("code") or NO_STATUS, message.get("reason")
            raise self._own(WebSocketDisconnect(code, reason))
        return message

    def __repr__(self) -> str:
        return f"<Socket {self.sid!r} in {self._host.name}>"


def has_left(socket: Socket) -> str:
    """What an error says about a socket that is not in its namespace any more."""
    return f"{socket} has left: it was disconnected, or its `connect` block is over."


class _Messages(AsyncIterator[T]):
    """What `async for` goes through: `receive_*`, with no coroutine more to wake up through.

    No async generator, for the same reason; and one that was cancelled while it waited, by a
    timeout say, would be over.
    """

    __slots__ = ("_reader", "_receive", "_socket")

    def __init__(
        self,
        socket: Socket,
        receive: Callable[[], Awaitable[Message]],
        read: Callable[[Message], T],
    ) -> None:
        self._socket = socket
        self._receive = receive
        self._reader = read

    async def __anext__(self) -> T:
        socket = self._socket
        try:
            socket._check_there()
            return socket._read(self._reader, socket._unless_gone(await self._receive()))
        except WebSocketDisconnect:
            raise StopAsyncIteration from None


def _text_of(message: Message) -> str:
    text = message.get("text")
    if text is None:
        raise InvalidMessage("Expected a text message, got bytes", code=UNSUPPORTED_DATA)
    return str(text)


def _bytes_of(message: Message) -> bytes:
    data = message.get("bytes")
    if data is None:
        raise InvalidMessage("Expected bytes, got a text message", code=UNSUPPORTED_DATA)
    return bytes(data)
