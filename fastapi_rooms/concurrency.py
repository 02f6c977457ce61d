"""Background tasks that are cancelled with their owner, and loops that yield to the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

logger = logging.getLogger("fastapi_rooms")

T = TypeVar("T")

FAULTS: Final = (Exception, SystemExit)
"""What an application's code raises by a fault of its own, or of a library that calls `sys.exit`.

asyncio ends its event loop, and so the process, by a `SystemExit` out of a task or a callback.
"""


class Tasks:
    """The running background tasks of one owner, which cancels them when it is closed.

    Unlike in an `asyncio.TaskGroup`, a task that fails neither cancels nor fails the others.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run `work` in the background; `name` identifies it in the log."""
        _ = self.create(work, name)

    def create(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run `work` in the background and return its task."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self) -> None:
        """Drop every task without cancelling it, because its event loop no longer runs."""
        self._tasks.clear()

    async def wait(self, timeout: float) -> None:
        """Wait until all tasks are done, for at most `timeout` seconds."""
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=timeout)

    async def cancel(self, timeout: float) -> None:
        """Cancel all tasks and wait for them; report those that run on after `timeout` seconds."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await self.wait(timeout)
        for task in tasks:
            if not task.done():
                logger.error(
                    "%s was cancelled and has not ended within %g s; it is no longer waited for. "
                    "Code that catches CancelledError must raise it again.",
                    task.get_name(),
                    timeout,
                )


SLICE = 1000
"""How many sockets are processed before other tasks get a turn: about 5 ms of work."""


async def in_slices(
    items: Sequence[T], size: int | None = None, *, weight: int = 1
) -> AsyncIterator[Sequence[T]]:
    """Yield slices of `size` items (`SLICE` by default), and let other tasks run in between.

    Of items that are so many times the work of one, a slice has so many times fewer.
    """
    size = _size(size, weight)
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]


async def parts_of(
    items: Iterable[T], size: int | None = None, *, weight: int = 1
) -> AsyncIterator[Sequence[T]]:
    """The same of what is no sequence, and does not change meanwhile, without a copy of it all."""
    rest, size = iter(items), _size(size, weight)
    part = list(islice(rest, size))
    while part:
        yield part
        part = list(islice(rest, size))
        if part:
            await asyncio.sleep(0)


def _size(size: int | None, weight: int) -> int:
    return max(1, (size or SLICE) // max(1, weight))
