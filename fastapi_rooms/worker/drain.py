"""A worker drains: every client and listener is closed, each at its own moment."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable

from fastapi_rooms.core.drain_schedule import DrainSchedule

logger = logging.getLogger("fastapi_rooms")

DRAIN_SLICE = 100
"""Clients whose closing begins in one turn of the event loop, where there is no time for fewer."""

Drainable = Callable[[float], Awaitable[None]]
"""The `drain` of one client or listener: closes it, in at most so many seconds."""


class Drain:
    """Begins in the next turn of the event loop, with those who are there by then."""

    def __init__(
        self, drainables: Callable[[], Iterable[Drainable]], schedule: DrainSchedule
    ) -> None:
        self.timeout = schedule.timeout
        """Seconds that each of them has."""
        self._drainables = drainables
        self._schedule = schedule
        self._task = asyncio.create_task(self._run(), name="fastapi_rooms drain")

    def is_longer_than(self, schedule: DrainSchedule) -> bool:
        """Whether it may take longer than another schedule does."""
        own = self._schedule
        return own.window > schedule.window or own.timeout > schedule.timeout

    async def wait(self) -> None:
        """Return when everyone has been closed."""
        await asyncio.wait((self._task,))

    def cancel(self) -> None:
        """Close nobody any more."""
        self._task.cancel()

    async def _run(self) -> None:
        # Emptied as it goes: before Python 3.13, a task group that is cancelled leaves this frame
        # and all that is in it, to the garbage collector.
        waiting = deque(self._drainables())
        if waiting:
            logger.info("Draining: %d clients and listeners are closed", len(waiting))
        loop = asyncio.get_running_loop()
        begin = loop.time()
        async with asyncio.TaskGroup() as tasks:
            moments = self._schedule.delays(len(waiting), random.random)
            for number, moment in enumerate(moments, 1):
                wait = begin + moment - loop.time()
                if wait > 0 or number % DRAIN_SLICE == 0:
                    await asyncio.sleep(max(wait, 0))
                tasks.create_task(self._drain_one(waiting.popleft()))

    async def _drain_one(self, drainable: Drainable) -> None:
        try:
            await drainable(self.timeout)
        except Exception:
            logger.exception("A client could not be closed")
