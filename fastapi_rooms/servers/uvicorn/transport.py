"""The transport that writes finished frames to the TCP or TLS transport of uvicorn's connection.

This module, like its neighbours, depends on internals of uvicorn:

* The ASGI `receive` that uvicorn passes to the application is a bound method of the connection's
  protocol object. If middleware has wrapped it, it is not, and this transport is not used.
* The protocol has a `transport` (asyncio's) and a `conn` (the WebSocket state machine, with its
  `state`), and writes each message as one frame by one `transport.write`. So a frame of ours can
  only land between two messages.
* Plain TCP and Unix transports, asyncio's and uvloop's, have a non-blocking socket. They write to
  it at once unless their buffer holds data, and with a high-water mark of 0 they call
  `pause_writing` as soon as it does. Until then frames can be written to the socket itself, which
  saves a fifth of the cost of a delivery; what the kernel does not accept is passed to the
  transport. The socket is closed after `connection_lost`, so before that its descriptor cannot have
  been reused. uvicorn's own `pause_writing` is still called at the default high-water mark.
* asyncio looks up `pause_writing`, `resume_writing` and `connection_lost` of the protocol at every
  call, and uvicorn encodes every frame, including the close frame, by one method of `conn`. We
  override these on the instances. So a client that falls behind or disconnects is noticed when it
  happens, what is queued is written before anything newer, and a message to a client that keeps up
  costs no check, only the write.
* A server that stops calls `shutdown` of each protocol, which closes the connection with 1012, and
  ends the lifespan only when all connections are closed. So we override `shutdown`: the server's
  call starts the worker's drain, which calls the original when it is this client's turn. `config`
  has the server's timeout. A worker without clients learns from `server.py` that it stops.
* The protocol's `queue` holds the client's messages for the application, and `read_paused` says
  whether it has stopped reading. We replace the queue for good: see `inbox.py`.
* The default implementation receives data by `data_received`: see `reader.py`.

If anything is not as expected (another server, an implementation or version that was not tested, an
attribute of another type), `AsgiTransport` is used, which works on every server.

What is written here to connections that negotiated permessage-deflate is compressed once for all of
them: see `deflate.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE
from fastapi_rooms.core.compression import Compression, Deflate
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.servers.uvicorn.connection import (
    Connection,
    connection_of,
    has_starlettes_receive,
    socket_fd_of,
)
from fastapi_rooms.servers.uvicorn.deflate import deflate_of
from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.reader import Reader
from fastapi_rooms.servers.uvicorn.server import OnShutdown
from fastapi_rooms.transports.base import ignore

_ENCODE_METHODS = {"WebSocketsSansIOProtocol": "data_to_send", "WSProtocol": "send"}
"""The method of `conn` that returns the bytes to write, by the protocol's class."""

_Frames = Outbox[bytes, asyncio.Future[None]]
"""Frames and, where a sender waits, the future that is done when asyncio has the frame."""

_HIGH_WATER = 64 * 1024
"""asyncio's default high-water mark, in bytes; also about how much is written at once."""

_MAX_WRITES = _HIGH_WATER // ENTRY_BYTES
"""How many writes asyncio may buffer. It keeps each by itself, however short, and counts them all
whenever it is asked how many bytes there are."""


class UvicornTransport:
    """Writes to one client by its socket or asyncio transport; queues only while that is paused."""

    name = "uvicorn"

    __slots__ = (
        "_buffered_writes",
        "_buffering",
        "_conn",
        "_deferred_shutdown",
        "_loop",
        "_on_lost",
        "_on_overflow",
        "_on_shutdown",
        "_open_state",
        "_outbox",
        "_paused",
        "_protocol",
        "_skipped",
        "_socket_fd",
        "_stopped",
        "_transport",
        "_transport_write",
        "_writable",
        "deflate",
        "fd",
        "policy",
        "receive",
    )

    @classmethod
    def of(
        cls,
        websocket: WebSocket,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_shutdown: OnShutdown,
        on_lost: Callable[[], None] = ignore,
        compression: Compression | None = None,
    ) -> UvicornTransport | None:
        """A transport for an accepted connection, or `None` if anything is not as expected."""
        connection = connection_of(websocket)
        if connection is None:
            return None
        transport = cls(websocket, connection, policy, on_overflow, on_shutdown, on_lost)
        transport.deflate = deflate_of(connection.conn, compression)
        return transport

    def __init__(
        self,
        websocket: WebSocket,
        connection: Connection,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_shutdown: OnShutdown,
        on_lost: Callable[[], None],
    ) -> None:
        protocol, transport, conn, open_state = connection
        self._protocol = protocol
        self._transport = transport
        self._transport_write = transport.write
        self.deflate: Deflate | None = None
        self._conn = conn
        self._open_state = open_state
        self.policy = policy
        self._on_overflow = on_overflow
        self._on_shutdown = on_shutdown
        self._on_lost = on_lost
        # While the server waits for the drain to close this: the seconds that it then has.
        self._deferred_shutdown: float | None = None
        self._loop = asyncio.get_running_loop()
        self._outbox: _Frames | None = None  # rarely needed
        self._skipped = 0
        self._paused = False
        self._stopped = False
        self._writable = True
        self._buffering = False
        self._buffered_writes = 0
        self.fd = self._socket_fd = socket_fd_of(transport)
        if self._socket_fd is not None:
            transport.set_write_buffer_limits(high=0)
        protocol.pause_writing = self._pause_writing
        protocol.resume_writing = self._resume_writing
        protocol.connection_lost = self._connection_lost
        protocol.shutdown = self._shutdown
        if not isinstance(protocol.queue, Inbox):
            inbox = Inbox(transport, paused=protocol.read_paused)
            while not protocol.queue.empty():
                inbox.put_nowait(protocol.queue.get_nowait())
            protocol.queue, protocol.read_paused = inbox, True
            Reader.install(protocol, inbox, open_state)
        self.receive: Callable[[], Awaitable[Message]] = (
            protocol.queue.get if has_starlettes_receive(websocket) else websocket.receive
        )
        setattr(conn, _ENCODE_METHODS[type(protocol).__name__], self._encode)

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:
        """Have `answer` called whenever the client sends this text."""
        self._protocol.queue.intercept(text, answer)
        return True

    def never_drop(self) -> None:
        """Close the client with 1013 where the policy would drop a message."""
        self.policy = self.policy.without_drops()
        if self._outbox is not None:
            self._outbox.policy = self.policy

    @property
    def pending(self) -> int:
        """How many bytes the outbox counts, and are in asyncio's buffer."""
        queued = self._outbox.size if self._outbox is not None else 0
        return queued + self._transport.get_write_buffer_size()

    @property
    def dropped(self) -> int:
        return self._skipped + (self._outbox.dropped if self._outbox is not None else 0)

    def write(self, message: Outgoing, sent: int = 0) -> None:
        """Pass the frame to asyncio, or queue it if earlier ones are queued."""
        if self._writable:
            frame = message.frame_for(self.deflate)
            self._write(memoryview(frame)[sent:] if sent else frame)
        else:
            self._enqueue(message)

    def write_volatile(self, message: Outgoing) -> None:
        """Pass the frame to asyncio, or skip it if earlier ones are queued."""
        if self._writable:
            self._write(message.frame_for(self.deflate))
        elif self._is_open():
            self._skipped += len(message.parts)

    async def send(self, payload: Payload) -> None:
        """Pass the frame to asyncio, after those that are queued; return when asyncio has it.

        One that is cancelled before asyncio has the frame takes it back.
        """
        frame = payload.frame_for(self.deflate)
        if self._writable:
            self._write(frame)
            return
        if not self._is_open():
            raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        await self._wait_for(self._get_outbox(), frame)

    @property
    def is_flushed(self) -> bool:
        return not self._outbox

    async def flush(self) -> bool:
        """Queue an empty item after all others, and wait until it is reached."""
        while self._outbox and self._is_open():
            try:
                await self._wait_for(self._outbox, b"")
            except WebSocketDisconnect:
                return False
        return self._is_open()

    async def drain(self, timeout: float) -> None:
        """Flush, and have uvicorn close; it does not wait for the client's close frame."""
        self._loop.call_later(timeout, self._transport.abort)  # has no effect once it is closed
        await self.flush()
        self._close()

    def stop(self) -> None:
        """Drop what is queued, and remove our methods from uvicorn's objects."""
        if self._stopped:
            return
        self._stopped = True
        self._on_overflow = self._on_lost = ignore
        self._block_writes()
        if self._socket_fd is not None and not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
            if self._buffering:  # asyncio does not call it again before `resume_writing`
                type(self._protocol).pause_writing(self._protocol)
        for method in ("pause_writing", "resume_writing", "connection_lost", "shutdown"):
            vars(self._protocol).pop(method, None)
        vars(self._conn).pop(_ENCODE_METHODS[type(self._protocol).__name__], None)
        self._protocol.queue.intercept(None, ignore)
        self._drop_queued()
        if self._deferred_shutdown is not None:  # the server waits for us to close the connection
            self._loop.call_later(self._deferred_shutdown, self._transport.abort)
            self._close()

    def abort(self) -> bool:
        """Abort the TCP connection. uvicorn then sends the endpoint `websocket.disconnect`."""
        self._transport.abort()
        return True

    def _is_open(self) -> bool:
        return (
            not self._stopped
            and self._conn.state is self._open_state
            and not self._transport.is_closing()
        )

    async def _wait_for(self, outbox: _Frames, frame: bytes) -> None:
        """Queue a frame, and return when asyncio has it; if cancelled before, take it back."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        entry = outbox.push(frame, len(frame), waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            outbox.discard(entry)
            raise

    def _get_outbox(self) -> _Frames:
        if self._outbox is None:
            self._outbox = Outbox(self.policy)
        return self._outbox

    def _enqueue(self, message: Outgoing) -> None:
        if not self._is_open():
            return
        outbox = self._get_outbox()
        buffered = self._transport.get_write_buffer_size()
        # Messages that were joined into one frame stay so, and that is shared by all members. Where
        # there is no room for all of them, each is a matter of the policy.
        whole = outbox.has_room(len(message.frame_for(self.deflate)), buffered=buffered)
        for item in (message,) if whole else message.parts:
            frame, count = item.frame_for(self.deflate), len(item.parts)
            verdict = outbox.offer(frame, len(frame), buffered=buffered, messages=count)
            if verdict is Verdict.OVERFLOW:
                self._loop.call_soon(self._on_overflow)
                self.stop()
                return

    def _write(self, data: bytes | memoryview) -> None:
        self._transport_write(data)
        self._check_high_water()

    def _block_writes(self) -> None:
        """Queue later frames instead of writing them, or drop them if the connection closes."""
        self._writable, self.fd = False, None

    def _drop_queued(self) -> None:
        """Drop what is queued, and fail the senders that wait."""
        if self._outbox is not None:
            for _, waiter in self._outbox.clear():
                if waiter is not None and not waiter.done():
                    waiter.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))

    # These override methods of `conn` and of the protocol; each calls the original.

    def _encode(self, *args: Any) -> Any:
        conn = self._conn
        data = getattr(type(conn), _ENCODE_METHODS[type(self._protocol).__name__])(conn, *args)
        if conn.state is not self._open_state:  # with a close frame, which is the last one
            self._block_writes()
            self._drop_queued()
        self._check_high_water()
        return data

    def _pause_writing(self) -> None:
        if self._socket_fd is None:
            self._pause()
        else:
            self._buffering, self.fd = True, None
            self._check_high_water()

    def _check_high_water(self) -> None:
        """Called after each write: pause where asyncio would by its default high-water mark."""
        if not self._buffering or self._paused:
            return
        self._buffered_writes += 1
        is_full = self._buffered_writes > _MAX_WRITES
        if is_full or self._transport.get_write_buffer_size() > _HIGH_WATER:
            self._pause()

    def _pause(self) -> None:
        """Queue frames until asyncio's buffer is empty, and have uvicorn pause too."""
        self._paused = True
        self._block_writes()
        type(self._protocol).pause_writing(self._protocol)

    def _resume_writing(self) -> None:
        was_paused, self._paused, self._buffering = self._paused, False, False
        self._buffered_writes = 0
        while self._outbox and not self._paused:  # writing may pause it again
            self._write_batch(self._outbox)
        if self._paused:
            return
        if self._is_open():
            self._writable, self.fd = True, None if self._buffering else self._socket_fd
        if was_paused:
            type(self._protocol).resume_writing(self._protocol)

    def _connection_lost(self, exc: Exception | None) -> None:
        protocol, on_lost = self._protocol, self._on_lost
        self._deferred_shutdown = None
        self.stop()
        protocol.connection_lost(exc)
        on_lost()

    def _shutdown(self) -> None:
        """Have the drain close this connection, as the server would close all of them at once."""
        self._deferred_shutdown = self._on_shutdown(self._protocol.config.timeout_graceful_shutdown)
        if self._deferred_shutdown is None:
            self._close()

    def _close(self) -> None:
        """Close with 1012, or only the TCP connection if a close frame was sent or received."""
        self._deferred_shutdown = None
        protocol = self._protocol
        if protocol.close_sent or self._conn.state is self._open_state:
            type(protocol).shutdown(protocol)
        else:
            self._transport.close()

    def _write_batch(self, outbox: _Frames) -> None:
        frames = []
        size = 0
        while outbox and size < _HIGH_WATER:
            frame, waiter = outbox.pop()
            if waiter is not None:
                if waiter.done():  # its sender was cancelled in this turn
                    continue
                waiter.set_result(None)
            frames.append(frame)
            size += len(frame)
        if frames:
            self._write(b"".join(frames))
