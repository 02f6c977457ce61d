"""The transport that writes by ASGI `send`, and so works on every server.

`send` is a coroutine that a slow client can block, and a fan-out must not wait for one client. So
messages are queued in an outbox, and a task writes them; it exists only while messages are queued.
A message from the socket's own endpoint, which may wait, is sent by the endpoint's task itself if
none is queued.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE, SERVICE_RESTART
from fastapi_rooms.core.compression import Deflate
from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.errors import UsageError
from fastapi_rooms.transports.base import ignore

logger = logging.getLogger("fastapi_rooms")

_Messages = Outbox[Payload | None, asyncio.Future[None]]
"""Messages and, where a sender waits, the future that is done when the message is sent.

`flush` queues an item without a message, to learn when all earlier ones are sent.
"""

# From Python 3.12 on a task can start eagerly. If `send` does not block, the message is then
# written without another iteration of the event loop.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class AsgiTransport:
    """Writes to one client by `websocket.send`."""

    name = "asgi"
    fd: int | None = None
    deflate: Deflate | None = None  # the server compresses

    def __init__(
        self,
        websocket: WebSocket,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_lost: Callable[[], None] = ignore,
    ) -> None:
        self._websocket = websocket
        self.receive: Callable[[], Awaitable[Message]] = websocket.receive
        self._on_overflow = on_overflow
        self._on_lost = on_lost
        self._outbox: _Messages = Outbox(policy)
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Task[None] | None = None
        self._sending = False
        self._skipped = 0
        self._stopped = False

    @property
    def policy(self) -> OutboxPolicy:
        """What happens when the client does not keep up."""
        return self._outbox.policy

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:  # noqa: ARG002 -- cannot
        """Return false: the server hands on a message when it is received."""
        return False

    def never_drop(self) -> None:
        """Close the client with 1013 where the policy would drop a message."""
        self._outbox.policy = self._outbox.policy.without_drops()

    @property
    def pending(self) -> int:
        """How many bytes the outbox counts. The server's own buffer is not known."""
        return self._outbox.size

    @property
    def dropped(self) -> int:
        """How many messages the policy dropped, and how many volatile ones were skipped."""
        return self._outbox.dropped + self._skipped

    def write(self, message: Outgoing, sent: int = 0) -> None:  # noqa: ARG002 -- there is no `fd`
        """Queue the message, and start the task that writes."""
        if self._stopped:
            return
        for payload in message.parts:
            if self._outbox.offer(payload, len(payload.data)) is Verdict.OVERFLOW:
                self._loop.call_soon(self._on_overflow)
                self._stop_writing()
                return
        self._start_writer()

    def write_volatile(self, message: Outgoing) -> None:
        """Queue the message, or skip it if a `send` is still blocked."""
        if self._sending:
            self._skipped += len(message.parts)
        else:
            self.write(message)

    async def send(self, payload: Payload) -> None:
        """Send the message from the caller's task, or queue it and wait if others are queued.

        One that is cancelled takes the message back if it is still queued. If the server's `send`
        has it, what becomes of it is the server's to say, where the caller's task sends; and it is
        sent to its end where it had been queued. Raises what the server says of a message that
        cannot be sent at all, where that is a `UsageError`.
        """
        if self._stopped:
            raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        if self._sending or self._outbox or self._writer is not None:
            await self._wait_for(payload, len(payload.data))
            return
        try:
            if not await self._send(payload):
                raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        finally:
            if self._outbox:
                self._start_writer()

    @property
    def is_flushed(self) -> bool:
        """Whether nothing is being sent, and nothing is queued."""
        return self._writer is None and not self._sending and not self._outbox

    async def flush(self) -> bool:
        """Wait for the writing task, or queue an empty item and wait until it is reached.

        The latter is needed while the endpoint's own task is sending: then no writing task exists.
        """
        while not (self.is_flushed or self._stopped):
            if self._writer is not None:
                await asyncio.wait((self._writer,))
                continue
            with suppress(WebSocketDisconnect):
                await self._wait_for(None, 0)
        return not self._stopped

    async def drain(self, timeout: float) -> None:  # noqa: ARG002 -- ASGI cannot abort
        """Flush, and close with 1012 as the endpoint would. Does not abort: ASGI has no way to."""
        if await self.flush() and self._websocket.application_state is WebSocketState.CONNECTED:
            await self._websocket.close(SERVICE_RESTART, "service restart")

    def stop(self) -> None:
        """Drop what is queued, and cancel a `send` that is blocked."""
        self._on_overflow = self._on_lost = ignore
        self._stop_writing()
        if self._writer is not None:
            self._writer.cancel()

    async def _wait_for(self, payload: Payload | None, size: int) -> None:
        """Queue a message, and return when it is sent; if cancelled before, take it back."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        entry = self._outbox.push(payload, size, waiter)
        self._start_writer()
        try:
            await waiter
        except asyncio.CancelledError:
            self._outbox.discard(entry)
            raise

    def _stop_writing(self) -> None:
        """Drop queued and later messages, and fail waiting senders. A running `send` goes on."""
        self._stopped = True
        for _, waiter in self._outbox.clear():
            if waiter is not None and not waiter.done():
                waiter.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))

    def _start_writer(self) -> None:
        if self._writer is None and not self._sending and not self._stopped:
            writer = asyncio.Task(self._write_queued(), loop=self._loop, **_EAGER)
            if not writer.done():
                self._writer = writer
                writer.add_done_callback(self._writer_done)

    def _writer_done(self, writer: asyncio.Task[None]) -> None:
        """Forget the task, unless `_write_queued` ended normally and a new task runs already."""
        if self._writer is writer:
            self._writer = None

    async def _write_queued(self) -> None:
        while self._outbox:
            payload, waiter = self._outbox.pop()
            if waiter is not None and waiter.done():  # its sender was cancelled in this turn
                continue
            sent = False
            error: UsageError | None = None
            try:
                sent = payload is None or await self._send(payload)
            except UsageError as found:
                error = found
            finally:
                if waiter is not None and not waiter.done():
                    if sent:
                        waiter.set_result(None)
                    else:
                        waiter.set_exception(error or WebSocketDisconnect(ABNORMAL_CLOSURE))
        self._writer = None  # before the done callback does it, so that a new task can start

    def abort(self) -> bool:
        """Return false: ASGI has no way to abort a connection."""
        return False

    async def _send(self, payload: Payload) -> bool:
        """Send one message; any error means that the client is disconnected, and returns false.

        But for a `UsageError`, which is raised: nothing was sent.
        """
        self._sending = True
        try:
            await self._put(payload)
        except UsageError:
            raise
        except Exception as error:  # noqa: BLE001 -- every server raises its own error
            logger.debug("A message could not be sent: the client is disconnected (%r)", error)
            self._stop_writing()
            self._loop.call_soon(self._on_lost)
            return False
        finally:
            self._sending = False
        return True

    async def _put(self, payload: Payload) -> None:
        """Hand one message to the server."""
        await self._websocket.send(payload.asgi())
