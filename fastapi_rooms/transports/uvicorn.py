"""The transport that writes finished frames to uvicorn's own TCP or TLS transport.

Everything in this package that leans on a server's insides is in this file. What it leans on:

* The ASGI `receive` that uvicorn hands to the application is a bound method of the connection's
  protocol object. If anything has wrapped it, this is not such a method, and we keep out.
* The protocol has `transport` (asyncio's), `conn` (the WebSocket state machine, with `state`), and
  writes each message as one frame in one `transport.write`. So a frame written in between can
  land only between two messages.
* asyncio calls `pause_writing`, `resume_writing` and `connection_lost` of the protocol by
  attribute, and uvicorn makes the bytes of every frame, the close frame among them, by one method
  of `conn`. We put functions of ours before these, on the one instance. So a client that falls
  behind or goes is noticed when it happens, what waited for it leaves before anything newer, and
  a message that nothing is in the way of costs not one question, but the write itself.
* A server that stops calls `shutdown` of each protocol, which closes it with 1012, and only then,
  when all connections are closed, ends the lifespan. So of that call we make the beginning of our
  own leaving, and make it ourselves when it is this client's turn. `config` says how long the
  server waits for that. The server itself tells those who have no client: `uvicorn_server.py`.
* Its `queue` holds the client's messages for the application, and `read_paused` says whether it has
  stopped reading. We put another queue in its place, for good: see `inbox.py`.
* asyncio hands what arrives to the protocol's `data_received`. Before that of uvicorn's default
  implementation, on websockets' parser, we put ours, for good: see `_Reader`.

Every doubt (another server, an implementation or version that was not tested, an attribute of
another kind) means `AsgiTransport`, which works everywhere.

A frame of ours goes out uncompressed on a connection that negotiated permessage-deflate, which is
legal: see `frames.py`.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.frames import Outgoing, Payload
from fastapi_rooms.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.transports.base import ABNORMAL_CLOSURE
from fastapi_rooms.transports.inbox import Inbox
from fastapi_rooms.transports.reader import Unmask, events_in
from fastapi_rooms.transports.uvicorn_server import OnShutdown, tested_parser, tested_version

_IMPLEMENTATIONS = {
    "uvicorn.protocols.websockets.websockets_sansio_impl": "WebSocketsSansIOProtocol",
    "uvicorn.protocols.websockets.wsproto_impl": "WSProtocol",
}
_MAKES_BYTES = {"WebSocketsSansIOProtocol": "data_to_send", "WSProtocol": "send"}

_Waiting = tuple[bytes, asyncio.Future[None] | None]

_WRITE_BYTES = 64 * 1024
"""How much of an outbox is joined into one write: asyncio's own high-water mark."""


class UvicornTransport:
    """Writes to one client by `transport.write`; queues only while asyncio says to pause."""

    name = "uvicorn"

    __slots__ = (
        "_asked",
        "_conn",
        "_loop",
        "_on_overflow",
        "_on_shutdown",
        "_open",
        "_outbox",
        "_paused",
        "_policy",
        "_protocol",
        "_skipped",
        "_stopped",
        "_transport",
        "_write",
        "direct",
        "receive",
    )

    @classmethod
    def of(
        cls,
        websocket: WebSocket,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_shutdown: OnShutdown,
    ) -> UvicornTransport | None:
        """A transport for an accepted connection, or `None` when there is any doubt about it."""
        protocol = getattr(getattr(websocket, "_receive", None), "__self__", None)
        kind = type(protocol)
        if _IMPLEMENTATIONS.get(kind.__module__) != kind.__name__ or not tested_version():
            return None
        transport: Any = getattr(protocol, "transport", None)
        conn = getattr(protocol, "conn", None)
        state = getattr(conn, "state", None)
        if (
            not (isinstance(transport, asyncio.Transport) or _is_uvloops(transport))
            or getattr(state, "name", None) != "OPEN"
            or getattr(protocol, "handshake_complete", None) is not True
            or transport.get_protocol() is not protocol
            or "pause_writing" in vars(protocol)  # another one of us has this connection
            or transport.is_closing()
            or transport.get_write_buffer_size()
            or not isinstance(getattr(protocol, "queue", None), asyncio.Queue | Inbox)
            or getattr(protocol.queue, "_getters", None)  # a task waits at the one we would replace
            or not isinstance(getattr(protocol, "read_paused", None), bool)
            or not isinstance(getattr(protocol, "close_sent", None), bool)
            or not hasattr(getattr(protocol, "config", None), "timeout_graceful_shutdown")
            or not callable(getattr(kind, "shutdown", None))
        ):
            return None
        return cls(websocket, protocol, transport, conn, state, policy, on_overflow, on_shutdown)

    def __init__(
        self,
        websocket: WebSocket,
        protocol: Any,
        transport: asyncio.Transport,
        conn: Any,
        open_state: object,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_shutdown: OnShutdown,
    ) -> None:
        self._protocol = protocol
        self._transport = transport
        self._write = transport.write
        self._conn = conn
        self._open = open_state
        self._policy = policy
        self._on_overflow = on_overflow
        self._on_shutdown = on_shutdown
        self._asked: float | None = None
        self._loop = asyncio.get_running_loop()
        self._outbox: Outbox[_Waiting] | None = None  # most clients never need one
        self._skipped = 0
        self._paused = False
        self._stopped = False
        self.direct: Callable[[bytes], object] | None = self._write
        protocol.pause_writing = self._pause
        protocol.resume_writing = self._resume
        protocol.connection_lost = self._lost
        protocol.shutdown = self._shut_down
        if not isinstance(protocol.queue, Inbox):
            inbox = Inbox(transport, paused=protocol.read_paused)
            while not protocol.queue.empty():
                inbox.put_nowait(protocol.queue.get_nowait())
            protocol.queue, protocol.read_paused = inbox, True
            _Reader.put_before(protocol, inbox, open_state)
        self.receive: Callable[[], Awaitable[Message]] = (
            protocol.queue.get if _is_plain(websocket) else websocket.receive
        )
        setattr(conn, _MAKES_BYTES[type(protocol).__name__], self._make_bytes)

    @property
    def pending(self) -> int:
        """Bytes in the outbox and in asyncio's buffer."""
        waiting = self._outbox.size if self._outbox is not None else 0
        return waiting + self._transport.get_write_buffer_size()

    @property
    def dropped(self) -> int:
        """What the policy dropped and `volatile` skipped."""
        return self._skipped + (self._outbox.dropped if self._outbox is not None else 0)

    def write(self, message: Outgoing) -> None:
        """Hand the frame to the kernel, or to the outbox of a client that is behind."""
        if self.direct is not None:
            self.direct(message.frame)
        else:
            self._write_behind(message)

    def write_volatile(self, message: Outgoing) -> None:
        """Hand the frame to the kernel, or skip a client that is behind."""
        if self.direct is not None:
            self.direct(message.frame)
        elif self._is_open():
            self._skipped += len(message.parts)

    async def send(self, payload: Payload) -> None:
        """Write, behind what waits; returns when it is asyncio's."""
        if self.direct is not None:
            self.direct(payload.frame)
            return
        if not self._is_open():
            raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        taken: asyncio.Future[None] = self._loop.create_future()
        self._queue().push((payload.frame, taken), len(payload.frame))
        await taken

    @property
    def settled(self) -> bool:
        """Whether the outbox is empty, as it is for most clients at all times."""
        return not self._outbox

    async def flush(self) -> bool:
        """Wait for the outbox to empty, by waiting behind the last in it."""
        while self._outbox and self._is_open():
            emptied: asyncio.Future[None] = self._loop.create_future()
            self._outbox.push((b"", emptied), 0)
            try:
                await emptied
            except WebSocketDisconnect:
                return False
        return self._is_open()

    async def leave(self, timeout: float) -> None:
        """Flush, and let uvicorn close it; then it also waits for nobody to answer."""
        self._loop.call_later(timeout, self._transport.abort)  # does nothing if it is closed
        await self.flush()
        self._say_goodbye()

    def stop(self) -> None:
        """Drop what waits, and give uvicorn its methods back."""
        if self._stopped:
            return
        self._stopped = True
        self.direct = None
        for method in ("pause_writing", "resume_writing", "connection_lost", "shutdown"):
            vars(self._protocol).pop(method, None)
        vars(self._conn).pop(_MAKES_BYTES[type(self._protocol).__name__], None)
        if self._outbox is not None:
            for _, taken in self._outbox.clear():
                if taken is not None and not taken.done():
                    taken.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))
        if self._asked is not None:  # the server waits for this connection to close
            self._loop.call_later(self._asked, self._transport.abort)
            self._say_goodbye()

    def abort(self) -> bool:
        """Cut the TCP connection; uvicorn then tells the endpoint that its client is gone."""
        self._transport.abort()
        return True

    def _is_open(self) -> bool:
        return (
            not self._stopped
            and self._conn.state is self._open
            and not self._transport.is_closing()
        )

    def _queue(self) -> Outbox[_Waiting]:
        if self._outbox is None:
            self._outbox = Outbox(self._policy)
        return self._outbox

    def _write_behind(self, message: Outgoing) -> None:
        if not self._is_open():
            return
        outbox = self._queue()
        held = self._transport.get_write_buffer_size()
        for payload in message.parts:
            verdict = outbox.offer((payload.frame, None), len(payload.frame), held=held)
            if verdict is Verdict.OVERFLOW:
                self.stop()
                self._loop.call_soon(self._on_overflow)
                return

    # What asyncio and uvicorn call, before uvicorn's own.

    def _make_bytes(self, *args: Any) -> Any:
        conn = self._conn
        made = getattr(type(conn), _MAKES_BYTES[type(self._protocol).__name__])(conn, *args)
        if conn.state is not self._open:  # a close frame is among them: ours may not come after it
            self.direct = None
        return made

    def _pause(self) -> None:
        self._paused = True
        self.direct = None
        type(self._protocol).pause_writing(self._protocol)

    def _resume(self) -> None:
        self._paused = False
        while self._outbox and not self._paused:  # writing may bring the next pause
            self._write_some(self._outbox)
        if not self._paused:
            self.direct = self._write if self._is_open() else None
            type(self._protocol).resume_writing(self._protocol)

    def _lost(self, exc: Exception | None) -> None:
        protocol = self._protocol
        self._asked = None
        self.stop()
        protocol.connection_lost(exc)

    def _shut_down(self) -> None:
        """The server is stopping, and would close this connection at once, with all others."""
        self._asked = self._on_shutdown(self._protocol.config.timeout_graceful_shutdown)
        if self._asked is None:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        """Close with 1012 as uvicorn does, unless a close frame has come or gone before."""
        self._asked = None
        protocol = self._protocol
        if protocol.close_sent or self._conn.state is self._open:
            type(protocol).shutdown(protocol)
        else:
            self._transport.close()

    def _write_some(self, outbox: Outbox[_Waiting]) -> None:
        frames = []
        size = 0
        while outbox and size < _WRITE_BYTES:
            frame, taken = outbox.pop()
            frames.append(frame)
            size += len(frame)
            if taken is not None and not taken.done():
                taken.set_result(None)
        self._write(b"".join(frames))


class _Reader:
    """Takes plain messages before websockets' parser does, at a tenth of what that costs.

    All that arrives goes to uvicorn as ever, except where the parser has nothing in hand and what
    arrived is whole messages: see `reader.py`. Then they go where uvicorn would put them, and
    the parser is none the wiser. It is asked where it stands whenever it has been given something.

    Nothing here refers to the protocol, which refers to it: a connection that is gone is freed
    without waiting for the garbage collector.
    """

    __slots__ = ("_conn", "_inbox", "_max_size", "_open", "_plain", "_protocol", "_unmask")

    @classmethod
    def put_before(cls, protocol: Any, inbox: Inbox, open_state: object) -> None:
        """Put one before a protocol's `data_received`, unless there is any doubt about it."""
        unmask = getattr(sys.modules.get("websockets.frames"), "apply_mask", None)
        max_size = getattr(getattr(protocol, "config", None), "ws_max_size", None)
        if (
            type(protocol).__name__ == "WebSocketsSansIOProtocol"
            and tested_parser()
            and "data_received" not in vars(protocol)
            and isinstance(getattr(protocol, "frames", None), list)
            and getattr(protocol.conn, "debug", None) is False  # else it logs every frame
            and isinstance(max_size, int)
            and callable(unmask)
        ):
            reader = cls(protocol, inbox, open_state, max_size, unmask)
            protocol.data_received = reader.data_received
            protocol.transport.set_protocol(protocol)  # uvloop keeps the method it saw then

    def __init__(
        self, protocol: Any, inbox: Inbox, open_state: object, max_size: int, unmask: Unmask
    ) -> None:
        self._protocol = weakref.ref(protocol)
        self._conn = protocol.conn
        self._inbox = inbox
        self._open = open_state
        self._max_size = max_size
        self._unmask = unmask
        self._plain = _is_between_messages(protocol)

    def data_received(self, data: bytes) -> None:
        """What asyncio calls."""
        if self._plain and self._conn.state is self._open:
            events = events_in(data, self._max_size, self._unmask)
            if events is not None:
                for event in events:
                    self._inbox.put_nowait(event)
                return
        protocol = self._protocol()
        if protocol is not None:
            self._plain = False  # should it raise
            type(protocol).data_received(protocol, data)
            self._plain = _is_between_messages(protocol)


def _is_between_messages(protocol: Any) -> bool:
    """Whether the parser holds no part of a frame, nor uvicorn of a message.

    The parser is a generator. It waits in `at_eof` for the first byte of a frame, with nothing in
    its buffer, and elsewhere for every other byte.
    """
    waiting = getattr(protocol.conn, "parser", None)
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return getattr(waiting, "__name__", "") == "at_eof" and not protocol.frames


def _is_plain(websocket: WebSocket) -> bool:
    """Whether its `receive` is Starlette's, and would only pass on what is in the inbox."""
    return (
        type(websocket).receive is WebSocket.receive
        and "receive" not in vars(websocket)
        and websocket.client_state is WebSocketState.CONNECTED
    )


def _is_uvloops(transport: object) -> bool:
    """Transports of uvloop behave as asyncio's do, and are not registered as such."""
    return type(transport).__module__ in ("uvloop.loop", "uvloop.sslproto")
