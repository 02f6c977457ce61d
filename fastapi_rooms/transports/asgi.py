"""The transport over ASGI `send`, which every server has.

Strategy: a fan-out may not await a member, and `send` is a coroutine that a slow client can hold
up for long. So messages go through an outbox, and a task drains it; the task lives only while
something waits. A message from the socket's own endpoint, which can wait, is sent by the
endpoint's own task whenever nothing is ahead of it.
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
from fastapi_rooms.core.outbox import Outbox, OutboxPolicy, Verdict
from fastapi_rooms.core.payload import Outgoing, Payload
from fastapi_rooms.transports.base import ignore

logger = logging.getLogger("fastapi_rooms")

_Waiting = tuple[Payload | None, asyncio.Future[None] | None]
"""A message, or the nothing that `flush` waits for; and whoever waits until it is sent."""

# From Python 3.12 on a task can run its first step at once: a client that keeps up then costs no
# further turn of the event loop.
_EAGER: dict[str, Any] = {"eager_start": True} if sys.version_info >= (3, 12) else {}


class AsgiTransport:
    """Writes to one client by `websocket.send`; `on_overflow` is called once if it is given up."""

    name = "asgi"
    fd: int | None = None

    def __init__(
        self, websocket: WebSocket, policy: OutboxPolicy, on_overflow: Callable[[], None]
    ) -> None:
        self._websocket = websocket
        self.receive: Callable[[], Awaitable[Message]] = websocket.receive
        self._on_overflow = on_overflow
        self._outbox: Outbox[_Waiting] = Outbox(policy)
        self._loop = asyncio.get_running_loop()
        self._drainer: asyncio.Task[None] | None = None
        self._sending = False
        self._skipped = 0
        self._stopped = False

    @property
    def pending(self) -> int:
        """Bytes in the outbox."""
        return self._outbox.size

    @property
    def dropped(self) -> int:
        """What the policy dropped and `volatile` skipped."""
        return self._outbox.dropped + self._skipped

    def write(self, message: Outgoing, sent: int = 0) -> None:  # noqa: ARG002 -- there is no `fd`
        """Queue it, and see that the queue is being drained."""
        if self._stopped:
            return
        for payload in message.parts:
            if self._outbox.offer((payload, None), len(payload.data)) is Verdict.OVERFLOW:
                self._loop.call_soon(self._on_overflow)
                self._drop()
                return
        self._start_draining()

    def write_volatile(self, message: Outgoing) -> None:
        """Queue it unless a send is being held up."""
        if self._sending:
            self._skipped += len(message.parts)
        else:
            self.write(message)

    async def send(self, payload: Payload) -> None:
        """Send it from the caller's task if nothing is ahead, else queue and wait."""
        if self._stopped:
            raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        if self._sending or self._outbox:
            taken: asyncio.Future[None] = self._loop.create_future()
            self._outbox.push((payload, taken), len(payload.data))
            self._start_draining()
            await taken
            return
        try:
            if not await self._send(payload):
                raise WebSocketDisconnect(ABNORMAL_CLOSURE)
        finally:
            if self._outbox:
                self._start_draining()

    @property
    def is_flushed(self) -> bool:
        """Whether nothing is being sent, and nothing waits."""
        return self._drainer is None and not self._sending and not self._outbox

    async def flush(self) -> bool:
        """Wait for the drainer, unless it writes for a client that was given up.

        Where the endpoint's own task is sending there is none yet: wait in line until there is.
        """
        while not (self.is_flushed or self._stopped):
            if self._drainer is not None:
                await asyncio.wait((self._drainer,))
                continue
            emptied: asyncio.Future[None] = self._loop.create_future()
            self._outbox.push((None, emptied), 0)
            self._start_draining()
            with suppress(WebSocketDisconnect):
                await emptied
        return not self._stopped

    async def drain(self, timeout: float) -> None:  # noqa: ARG002 -- ASGI cannot cut it
        """Close it by a message, as the endpoint would."""
        if await self.flush() and self._websocket.application_state is WebSocketState.CONNECTED:
            await self._websocket.close(SERVICE_RESTART, "service restart")

    def stop(self) -> None:
        """Drop what waits, and cancel a send that is held up."""
        self._on_overflow = ignore
        self._drop()
        if self._drainer is not None:
            self._drainer.cancel()

    def _drop(self) -> None:
        """Fail whoever waits. A send under way goes on, as half a message is no message."""
        self._stopped = True
        for _, taken in self._outbox.clear():
            if taken is not None and not taken.done():
                taken.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))

    def _start_draining(self) -> None:
        if self._drainer is None and not self._sending and not self._stopped:
            drainer = asyncio.Task(self._drain(), loop=self._loop, **_EAGER)
            if not drainer.done():
                self._drainer = drainer
                drainer.add_done_callback(self._drained)

    def _drained(self, drainer: asyncio.Task[None]) -> None:
        """It has ended, or was cancelled; if it ended in order, another may run by now."""
        if self._drainer is drainer:
            self._drainer = None

    async def _drain(self) -> None:
        while self._outbox:
            payload, taken = self._outbox.pop()
            sent = False
            try:
                sent = payload is None or await self._send(payload)
            finally:
                if taken is not None and not taken.done():
                    if sent:
                        taken.set_result(None)
                    else:
                        taken.set_exception(WebSocketDisconnect(ABNORMAL_CLOSURE))
        self._drainer = None  # now, not when asyncio says so a turn later: the next may start

    def abort(self) -> bool:
        """ASGI has no way to do that."""
        return False

    async def _send(self, payload: Payload) -> bool:
        """Send one message; whatever goes wrong means that the client is gone, and ends there."""
        self._sending = True
        try:
            await self._websocket.send(payload.asgi())
        except Exception as error:  # noqa: BLE001 -- each server has its own for this
            logger.debug("The client of a socket is gone: %r", error)
            self._drop()
            return False
        finally:
            self._sending = False
        return True
