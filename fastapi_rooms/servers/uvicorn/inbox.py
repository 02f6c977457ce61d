"""The queue of received messages, which replaces uvicorn's.

uvicorn pauses reading after every message, and resumes when the endpoint asks for the next one: two
changes to the selector per message. With asyncio's loop that is a fifth of the total cost of a
message in a small room. It also leaves a client's pongs unread while an endpoint is busy, and then
closes the connection because of a ping timeout. This queue pauses reading only when several
messages are queued, so it is bounded too.

What one read of the socket brings is queued whole, however many messages it is; with asyncio a read
brings 256 KiB at most. So messages wait as their text or bytes alone. As an event, the shortest
would take forty times the memory that it took on the wire.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi_rooms.transports.base import ignore

MAX_MESSAGES = 16
MAX_BYTES = 64 * 1024


class Inbox:
    """A queue of ASGI events with those methods of `asyncio.Queue` that uvicorn's protocols use.

    The protocol's `read_paused` must be set, so that the protocol does not pause reading itself.
    """

    __slots__ = (
        "_events",
        "_intercepted",
        "_loop",
        "_on_intercepted",
        "_paused",
        "_transport",
        "_waiters",
    )

    def __init__(self, transport: asyncio.Transport, *, paused: bool) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._events: deque[str | bytes | dict[str, Any]] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._paused = paused
        self._intercepted: str | None = None
        self._on_intercepted: Callable[[], None] = ignore

    def intercept(self, text: str | None, callback: Callable[[], None]) -> None:
        """Call back for each message that is this text, rather than queue it."""
        self._intercepted, self._on_intercepted = text, callback

    def put_nowait(self, event: dict[str, Any]) -> None:
        """Add an event; pause reading if too many are queued."""
        if event["type"] == "websocket.receive" and len(event) == 2:
            self.put(event["text"] if "text" in event else event["bytes"])
        else:
            self.put(event)

    def put(self, event: str | bytes | dict[str, Any]) -> None:
        """Add a message as its text or bytes alone, or any event, as `put_nowait` does."""
        if event == self._intercepted:
            self._on_intercepted()
            return
        self._events.append(event)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        if not self._paused and self._is_full():
            self._paused = True
            self._transport.pause_reading()

    async def get(self) -> dict[str, Any]:
        """Remove and return the next event; resume reading when none is left."""
        while not self._events:
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.cancelled():
                    self._forget(waiter)
                else:
                    self._wake_next()
                raise
        event = self._events.popleft()
        if isinstance(event, str):
            return {"type": "websocket.receive", "text": event}
        if isinstance(event, bytes):
            return {"type": "websocket.receive", "bytes": event}
        return event

    def empty(self) -> bool:
        """Return false: the protocol would resume reading itself if the queue were empty."""
        return False

    def _is_full(self) -> bool:
        """Whether too many are queued. Called only if no `get` waits, as counting costs time."""
        events = self._events
        return len(events) >= MAX_MESSAGES or sum(map(_size, events)) >= MAX_BYTES

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        """Leave nothing of a `get` that was cancelled: a silent client may outlast any number."""
        with suppress(ValueError):  # an event has come in the same turn
            self._waiters.remove(waiter)

    def _wake_next(self) -> None:
        """Wake another `get`, because the one woken for an event was cancelled before it ran."""
        while self._events and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _size(event: str | bytes | dict[str, Any]) -> int:
    return len(event) if isinstance(event, str | bytes) else 0
