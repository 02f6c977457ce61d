"""Tasks that end with whoever started them, and work in slices that leave others the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

logger = logging.getLogger("fastapi_rooms")

T = TypeVar("T")


class Tasks:
    """Tasks under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin something; `name` is what the log calls it."""
        _ = self.create(work, name)

    def create(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin something, and return its task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self) -> None:
        """Forget those that ran in an event loop that is gone."""
        self._tasks.clear()

    async def over(self, timeout: float) -> None:
        """Return when all are over, or that many seconds are."""
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=timeout)

    async def end(self, timeout: float) -> None:
        """Cancel all, and return when they are over; those that are not in time are left behind."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await self.over(timeout)
        for task in tasks:
            if not task.done():
                logger.error(
                    "%s was cancelled and has not ended in %g s: it is left behind. "
                    "Code that catches CancelledError has to raise it again.",
                    task.get_name(),
                    timeout,
                )


SLICE = 1000
"""Sockets that are looked at, or put into rooms, in one turn: some 5 ms of work."""


async def in_slices(items: Sequence[T], size: int | None = None) -> AsyncIterator[Sequence[T]]:
    """So many of them at a time, `SLICE` when left out."""
    size = size or SLICE
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]
