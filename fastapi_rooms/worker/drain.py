"""A worker's leaving, under way: everyone inside is seen out, each at its own moment."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from fastapi_rooms.core.drain_schedule import DrainSchedule
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Sid

logger = logging.getLogger("fastapi_rooms")

Written = Callable[[], Awaitable[None]]
"""Returns when every broadcast that was sent before is with the sockets it is for."""

Drainable = Callable[[float], Awaitable[None]]
"""Sees one out, a client or a listener, in at most so many seconds."""


class SocketDrainer:
    """The sockets of a namespace that are to be seen out, and whether they have gone by that."""

    def __init__(
        self, sockets: Mapping[Sid, object], members: Membership[Transport], written: Written
    ) -> None:
        self._sockets = sockets
        self._members = members
        self._written = written
        self._gone: dict[object, asyncio.Future[None]] = {}

    def guests(self) -> list[Drainable]:
        """Those who are inside."""
        return [partial(self._see_out, sid, socket) for sid, socket in self._sockets.items()]

    def gone(self, socket: object) -> None:
        """The socket has left the namespace."""
        if (gone := self._gone.pop(socket, None)) is not None and not gone.done():
            gone.set_result(None)

    async def _see_out(self, sid: Sid, socket: object, timeout: float) -> None:
        """Close a client behind what was sent to it, and wait for its endpoint to end by that."""
        transport = self._members.get(sid)
        if transport is None or self._sockets.get(sid) is not socket:
            return
        self._gone[socket] = gone = asyncio.get_running_loop().create_future()
        # In a task of its own, as there are servers that keep a cancellation to themselves.
        telling = asyncio.create_task(_tell(transport, self._written, timeout))
        try:
            await asyncio.wait((telling, gone), timeout=timeout)
        finally:
            telling.cancel()
            self._gone.pop(socket, None)


async def _tell(transport: Transport, written: Written, timeout: float) -> None:
    try:
        await written()
        await transport.leave(timeout)
    except Exception as error:  # noqa: BLE001 -- each server has its own for this
        logger.debug("A client was gone before it could be closed: %r", error)


class Drain:
    """Begins in the next turn of the event loop, with those who are inside by then."""

    def __init__(
        self, guests: Callable[[], Iterable[Drainable]], drain_schedule: DrainSchedule
    ) -> None:
        self.timeout = drain_schedule.timeout
        """Seconds that each of them has."""
        self._guests = guests
        self._departures = drain_schedule
        self._task = asyncio.create_task(self._see_out(), name="fastapi_rooms leaving")

    async def over(self) -> None:
        """Return when everyone has been seen out."""
        await asyncio.wait((self._task,))

    def cancel(self) -> None:
        """See nobody out any more."""
        self._task.cancel()

    async def _see_out(self) -> None:
        guests = list(self._guests())
        if guests:
            logger.info("Leaving: %d clients and listeners are seen out", len(guests))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as farewells:
            moments = self._departures.moments(len(guests), random.random)
            for moment, guest in zip(moments, guests, strict=True):
                wait = begin + moment - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                farewells.create_task(self._see_one_out(guest))

    async def _see_one_out(self, guest: Drainable) -> None:
        try:
            await guest(self.timeout)
        except Exception:
            logger.exception("A client could not be seen out")
