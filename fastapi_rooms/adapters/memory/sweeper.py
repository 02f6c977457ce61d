"""Drops from a bus what has expired, now and then: no message has a timer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from fastapi_rooms.adapters.memory.bus import MemoryBus

INTERVAL = 60.0
"""Seconds from one sweep to the next. What has expired cannot be read meanwhile."""


class Sweeper:
    """Sweeps a bus in one adapter's event loop, from its start to its close."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._loop: asyncio.AbstractEventLoop | None = None
        self._next: asyncio.Handle | None = None

    def start(self) -> None:
        """Sweep from now on, in the running loop."""
        self.stop()
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(INTERVAL, self._begin, self._loop)

    def stop(self) -> None:
        """Sweep no more."""
        if self._next is not None and self._loop is not None and not self._loop.is_closed():
            self._next.cancel()
        self._next = self._loop = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._go_on(loop, self._bus.sweep())

    def _go_on(self, loop: asyncio.AbstractEventLoop, parts: Iterator[None]) -> None:
        """Sweep one part, and let others run before the next."""
        for _ in parts:
            self._next = loop.call_soon(self._go_on, loop, parts)
            return
        self._next = loop.call_later(INTERVAL, self._begin, loop)
