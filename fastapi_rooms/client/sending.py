"""What is sent while there is no connection: refused, or kept for a while, in its order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from fastapi_rooms.client.options import BufferLimits
from fastapi_rooms.errors import NotConnected

Connection = TypeVar("Connection")


class SendQueue(Generic[Connection]):
    """Writes messages to whichever connection there is.

    Args:
        limits: what may wait for a connection; `None`: nothing.
        writable: the connection, if what is written now leaves.
        wait_open: waits for one, and raises if there will be none.
        write: writes to one at once, and then waits for the other side to read.
    """

    def __init__(
        self,
        limits: BufferLimits | None,
        writable: Callable[[], Connection | None],
        wait_open: Callable[[], Awaitable[None]],
        write: Callable[[Connection, str | bytes], Awaitable[None]],
    ) -> None:
        self._limits = limits
        self._writable = writable
        self._wait_open = wait_open
        self._write = write
        self._turn = asyncio.Lock()  # given in the order in which it is asked for
        self._messages = 0
        self._bytes = 0

    async def send(self, data: str | bytes) -> None:
        """Write a message, once. Raises `NotConnected`, and what `wait_open` raises."""
        if self._limits is None:
            await self._send_now(data)
            return
        if self._writable() is not None and not self._turn.locked():
            async with self._turn:  # at once, as it is free
                await self._send_now(data)
            return
        size = len(data.encode() if isinstance(data, str) else data)
        if self._messages >= self._limits.messages or self._bytes + size > self._limits.bytes:
            raise NotConnected("not connected, and too much is waiting")
        self._messages += 1
        self._bytes += size
        try:
            await self._send_in_turn(data, self._limits.age)
        finally:
            self._messages -= 1
            self._bytes -= size

    async def _send_now(self, data: str | bytes) -> None:
        connection = self._writable()
        if connection is None:
            raise NotConnected
        await self._write(connection, data)

    async def _send_in_turn(self, data: str | bytes, age: float) -> None:
        try:
            async with asyncio.timeout(age) as waiting, self._turn:
                await self._wait_open()
                waiting.reschedule(None)
                await self._send_now(data)
        except TimeoutError:
            raise NotConnected("not connected in time") from None
