"""One connection to Redis: redis-py opens it, then bytes go straight between socket and parser.

Strategy: redis-py knows URLs, TLS, credentials, Sentinel and the handshake, so it opens every
connection. After that its read loop would cost more per message than everything else done with the
message: a timeout context, several coroutines and a debug string each. So once the handshake is
over, this protocol replaces redis-py's own at the transport (`BaseTransport.set_protocol`), feeds
hiredis, and calls back for every reply that has arrived: no task, no await per message.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool

logger = logging.getLogger("fastapi_rooms")

_MORE = object()


def pack(*command: bytes) -> bytes:
    """A command as Redis reads it."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub is too narrow
    return packed


MAX_REPLY_BYTES = 64 * 1024 * 1024
"""The longest reply that is waited for: a longer one aborts the connection."""

REPLIES_PER_TURN = 512
"""Replies that are handed over in one turn of the event loop: some 5 ms of work for messages."""

CLOSE_TIMEOUT = 1.0
"""Seconds that the event loop has to close an aborted socket; it usually takes one turn."""

FORBIDDEN = ("NOPERM", "NOAUTH")
"""What errors begin with that only a change of permissions can resolve."""


def make_connection(pool: ConnectionPool) -> AbstractConnection:
    """A connection that is not open yet.

    The pool makes it without counting it, so an application that shares its client with an adapter
    keeps all of its connections.
    """
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    connection.encoder.decode_responses = False  # messages are bytes, whatever the client says
    return connection


async def connect(connection: AbstractConnection) -> None:
    """Connect where the pool says, and authenticate."""
    await connection.connect()  # type: ignore[no-untyped-call]


def address_of(connection: AbstractConnection) -> str:
    """The address of a connection, for people."""
    path = getattr(connection, "path", None)
    if path:
        return str(path)
    return f"{getattr(connection, 'host', '?')}:{getattr(connection, 'port', '?')}"


async def abort(connection: AbstractConnection) -> None:
    """Abort a connection of redis-py's, open or not."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    await connection.disconnect(nowait=True)


class Link(asyncio.Protocol):
    """An open connection. `on_reply` gets every reply, in order, until the connection is lost.

    `on_reply` raises for a reply that cannot answer any command. The other end is no Redis then, or
    replies and commands do not match any more: the connection is aborted, as for malformed bytes.
    """

    def __init__(self, connection: AbstractConnection, on_reply: Callable[[Any], None]) -> None:
        writer = connection._writer
        assert writer is not None
        self._connection = connection
        self._on_reply = on_reply
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._unparsed = 0
        self._transport: asyncio.Transport = cast(asyncio.Transport, writer.transport)
        self._streams = writer.transport.get_protocol()
        self.protocol: object = connection.protocol
        """The version of Redis' protocol: 2 or 3."""
        self.address = address_of(connection)
        """The address it leads to, for people."""
        self.peer: object = writer.get_extra_info("peername")
        """The socket address it leads to: a name can resolve to another one later."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone; the result says why."""
        self._gone = asyncio.Event()
        self._is_behind = False
        self.last_received = time.time()
        """When bytes last came, in seconds since the epoch."""
        self.on_writable: Callable[[], None] | None = None
        """Called when `writable` becomes true again."""
        self.writable = True
        self._transport.set_protocol(self)

    @classmethod
    async def open(
        cls,
        pool: ConnectionPool,
        on_reply: Callable[[Any], None],
        timeout: float,
        connect: Callable[[AbstractConnection], Awaitable[None]] = connect,
    ) -> Link:
        """Connect and authenticate as `pool` is configured to.

        Raises:
            redis.RedisError, OSError, TimeoutError: it could not be done in `timeout` seconds.
        """
        connection = make_connection(pool)
        try:
            async with asyncio.timeout(timeout):
                await connect(connection)
        except BaseException:
            await abort(connection)
            raise
        return cls(connection, on_reply)

    def write(self, data: bytes) -> None:
        """Send bytes. What is written after the connection is lost is lost as well."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def abort(self, reason: str) -> None:
        """Abort the connection, without waiting for what is buffered; `reason` says why."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self._transport.abort()

    async def close(self) -> None:
        """Close the connection without a TLS shutdown, and return when the socket is closed.

        A TLS shutdown takes several turns of the event loop; if the loop ends before it is over,
        asyncio warns. redis-py's half of the connection is closed as well.
        """
        self.abort("closed")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._gone.wait()
        await self._connection.disconnect(nowait=True)

    # What asyncio calls.

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and hand over the complete replies, some in each turn of the loop."""
        if self.lost.done():
            return
        self.last_received = time.time()
        self._unparsed += len(data)
        self._reader.feed(data)
        if not self._is_behind:
            self._hand_over(REPLIES_PER_TURN)

    def _hand_over(self, limit: int) -> None:
        """Hand over replies; if there are more, read on only after those, in later turns."""
        self._is_behind = True
        try:
            for _ in range(limit):
                reply = self._reader.gets()
                if reply is _MORE:
                    self._is_behind = False
                    break
                self._unparsed = 0
                self._on_reply(reply)
        except Exception as error:  # a ProtocolError, or a TypeError for a list as a key
            logger.debug("A reply of Redis cannot be understood", exc_info=True)
            self.abort(f"what came is not Redis' protocol: {error!r}")
            return
        if self._is_behind:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._hand_over_more)
        elif self._unparsed > MAX_REPLY_BYTES:
            self.abort(f"a reply is longer than {MAX_REPLY_BYTES} bytes")

    def _hand_over_more(self) -> None:
        if self.lost.done():
            return
        self._transport.resume_reading()  # and pause again in the same turn, if need be
        self._hand_over(REPLIES_PER_TURN)

    def _hand_over_rest(self) -> None:
        """The connection is over: what has arrived on it counts all the same."""
        if self._is_behind and not self.lost.done():
            self._hand_over(sys.maxsize)

    def pause_writing(self) -> None:
        """Redis reads more slowly than we write."""
        self.writable = False

    def resume_writing(self) -> None:
        """Redis has caught up."""
        self.writable = True
        if self.on_writable is not None:
            self.on_writable()

    def eof_received(self) -> None:
        """Redis has closed its half of the connection, and answers nothing any more."""
        self._hand_over_rest()
        self.abort("closed by Redis")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss, to redis-py's streams as well."""
        self._hand_over_rest()
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "closed")
        self._streams.connection_lost(exc)
        self._gone.set()
