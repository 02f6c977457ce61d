"""The transport that writes finished frames to uvicorn's own TCP or TLS transport.

What leans on a server's insides is in this file, and in those beside it whose names begin with its
own. What it leans on:

* The ASGI `receive` that uvicorn hands to the application is a bound method of the connection's
  protocol object. If anything has wrapped it, this is not such a method, and we keep out.
* The protocol has `transport` (asyncio's), `conn` (the WebSocket state machine, with `state`), and
  writes each message as one frame in one `transport.write`. So a frame written in between can
  land only between two messages.
* Plain TCP and Unix transports, asyncio's and uvloop's, have a socket that does not block. They
  write to it at once unless their buffer holds something, and with a limit of 0 they call
  `pause_writing` as soon as it does. Until then a frame may as well go to the socket itself,
  which saves a fifth of what a delivery costs; what the kernel does not take goes to the
  transport. That closes the socket after `connection_lost`: until then the descriptor is nobody
  else's. uvicorn hears of the pause at the limit it would have had.
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
* What arrives, its default implementation gets by `data_received`: see `uvicorn_reader.py`.

Every doubt (another server, an implementation or version that was not tested, an attribute of
another kind) means `AsgiTransport`, which works everywhere.

A frame of ours goes out uncompressed on a connection that negotiated permessage-deflate, which is
legal: see `frames.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE
from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.reader import Reader
from fastapi_rooms.servers.uvicorn.server import OnShutdown, tested_version
from fastapi_rooms.transports.base import ignore

_IMPLEMENTATIONS = {
    "uvicorn.protocols.websockets.websockets_sansio_impl": "WebSocketsSansIOProtocol",
    "uvicorn.protocols.websockets.wsproto_impl": "WSProtocol",
}
_MAKES_BYTES = {"WebSocketsSansIOProtocol": "data_to_send", "WSProtocol": "send"}

_PLAIN = {
    ("asyncio.selector_events", "_SelectorSocketTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
}

_Waiting = tuple[bytes, asyncio.Future[None] | None]

_HIGH_WATER = 64 * 1024
"""Bytes that may wait in a transport before its writers are to pause: what asyncio has by default.

Also how much of an outbox is joined into one write.
"""


class UvicornTransport:
    """Writes to one client by its socket or transport; queues only while asyncio says to pause."""

    name = "uvicorn"

    __slots__ = (
        "_asked",
        "_conn",
        "_fd",
        "_filling",
        "_free",
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
        "fd",
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
        self._free = True
        self._filling = False
        self.fd = self._fd = _socket_of(transport)
        if self._fd is not None:
            transport.set_write_buffer_limits(high=0)
        protocol.pause_writing = self._pause
        protocol.resume_writing = self._resume
        protocol.connection_lost = self._lost
        protocol.shutdown = self._shut_down
        if not isinstance(protocol.queue, Inbox):
            inbox = Inbox(transport, paused=protocol.read_paused)
            while not protocol.queue.empty():
                inbox.put_nowait(protocol.queue.get_nowait())
            protocol.queue, protocol.read_paused = inbox, True
            Reader.put_before(protocol, inbox, open_state)
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

    def write(self, message: Outgoing, sent: int = 0) -> None:
        """Hand the frame to asyncio, or to the outbox of a client that is behind."""
        if self._free:
            frame = message.frame
            self._put(memoryview(frame)[sent:] if sent else frame)
        else:
            self._write_behind(message)

    def write_volatile(self, message: Outgoing) -> None:
        """Hand the frame to asyncio, or skip a client that is behind."""
        if self._free:
            self._put(message.frame)
        elif self._is_open():
            self._skipped += len(message.parts)

    async def send(self, payload: Payload) -> None:
        """Write, behind what waits; returns when it is asyncio's."""
        if self._free:
            self._put(payload.frame)
            return
        if not self._is_open():
            raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        taken: asyncio.Future[None] = self._loop.create_future()
        self._queue().push((payload.frame, taken), len(payload.frame))
        await taken

    @property
    def is_flushed(self) -> bool:
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

    async def drain(self, timeout: float) -> None:
        """Flush, and let uvicorn close it; then it also waits for nobody to answer."""
        self._loop.call_later(timeout, self._transport.abort)  # does nothing if it is closed
        await self.flush()
        self._say_goodbye()

    def stop(self) -> None:
        """Drop what waits, and give uvicorn its methods back."""
        if self._stopped:
            return
        self._stopped = True
        self._on_overflow = ignore
        self._hold()
        if self._fd is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
            if self._filling:  # it will not say so again before it has said that it is empty
                type(self._protocol).pause_writing(self._protocol)
        for method in ("pause_writing", "resume_writing", "connection_lost", "shutdown"):
            vars(self._protocol).pop(method, None)
        vars(self._conn).pop(_MAKES_BYTES[type(self._protocol).__name__], None)
        self._drop()
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
                self._loop.call_soon(self._on_overflow)
                self.stop()
                return

    def _put(self, data: bytes | memoryview) -> None:
        """Hand it to asyncio."""
        self._write(data)
        self._check_filling()

    def _hold(self) -> None:
        """Something is in the way of frames, from now on."""
        self._free, self.fd = False, None

    def _drop(self) -> None:
        """Nothing that waits will be written any more."""
        if self._outbox is not None:
            for _, taken in self._outbox.clear():
                if taken is not None and not taken.done():
                    taken.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))

    # What asyncio and uvicorn call, before uvicorn's own.

    def _make_bytes(self, *args: Any) -> Any:
        conn = self._conn
        made = getattr(type(conn), _MAKES_BYTES[type(self._protocol).__name__])(conn, *args)
        if conn.state is not self._open:  # a close frame is among them: ours may not come after it
            self._hold()
            self._drop()
        self._check_filling()
        return made

    def _pause(self) -> None:
        if self._fd is None:
            self._hold_up()
        else:
            self._filling, self.fd = True, None
            self._check_filling()

    def _check_filling(self) -> None:
        """Whether the transport would pause by now, if its limit were what it is by default."""
        filling = self._filling and not self._paused
        if filling and self._transport.get_write_buffer_size() > _HIGH_WATER:
            self._hold_up()

    def _hold_up(self) -> None:
        """Write no more until the transport is empty, and have uvicorn do so, too."""
        self._paused = True
        self._hold()
        type(self._protocol).pause_writing(self._protocol)

    def _resume(self) -> None:
        was_paused, self._paused, self._filling = self._paused, False, False
        while self._outbox and not self._paused:  # writing may bring the next pause
            self._write_some(self._outbox)
        if self._paused:
            return
        if self._is_open():
            self._free, self.fd = True, None if self._filling else self._fd
        if was_paused:
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
        while outbox and size < _HIGH_WATER:
            frame, taken = outbox.pop()
            frames.append(frame)
            size += len(frame)
            if taken is not None and not taken.done():
                taken.set_result(None)
        self._put(b"".join(frames))


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


def _socket_of(transport: asyncio.Transport) -> int | None:
    """The socket that this transport writes to, if that is all it does; with TLS it is not."""
    kind = type(transport)
    sock = transport.get_extra_info("socket")
    if os.name != "posix" or (kind.__module__, kind.__name__) not in _PLAIN or sock is None:
        return None
    fd: int = sock.fileno()
    return fd if fd >= 0 else None
