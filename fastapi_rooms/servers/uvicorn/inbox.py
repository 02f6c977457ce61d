"""The client's messages on their way to the endpoint, in place of uvicorn's queue for them.

uvicorn stops reading from a connection after every single message, and reads on when the endpoint
asks for the next: two changes to the selector for each. With asyncio's loop that is a fifth of what
a message in a small room costs altogether. It also leaves a client's pongs unread while an endpoint
is busy, and then closes the connection for want of them. This queue lets some messages come in
before it stops reading, and still bounds them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

MAX_MESSAGES = 16
MAX_BYTES = 64 * 1024


class Inbox:
    """A queue of ASGI events with as much of `asyncio.Queue` as uvicorn's protocols use.

    The protocol is to believe that reading is paused already, so that it leaves pausing to us.
    """

    __slots__ = ("_events", "_loop", "_paused", "_transport", "_waiters")

    def __init__(self, transport: asyncio.Transport, *, paused: bool) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._events: deque[dict[str, Any]] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._paused = paused

    def put_nowait(self, event: dict[str, Any]) -> None:
        """Take an event from the server; stop reading when too many wait."""
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
        """Hand the next event to the application; read on when none is left."""
        while not self._events:
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._pass_on()
                raise
        return self._events.popleft()

    def empty(self) -> bool:
        """Never, as far as the protocol may know: it would read on by itself."""
        return False

    def _is_full(self) -> bool:
        """Counted only when nobody waits, as somebody nearly always does."""
        events = self._events
        return len(events) >= MAX_MESSAGES or sum(map(_size, events)) >= MAX_BYTES

    def _pass_on(self) -> None:
        """Whoever was woken for an event was cancelled before taking it: wake another."""
        while self._events and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _size(event: dict[str, Any]) -> int:
    return len(event.get("text") or event.get("bytes") or "")
