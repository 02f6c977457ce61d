"""Publishes frames. Those that nobody waits for share one task, as each of its own costs more."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine

logger = logging.getLogger("fastapi_rooms")

Failed = Callable[[], object]
Waiting = deque[tuple[Awaitable[object], Failed | None]]


class _Posted(threading.local):
    """What this thread's event loop waits for."""

    waiting: Waiting | None = None
    task: asyncio.Task[None] | None = None


_posted = _Posted()


async def until_published(publishing: Awaitable[object], failed: Failed) -> None:
    """Wait until something is published, which goes on if who waits is cancelled.

    It has its number, so without it there would be a hole. Cancelled, it is seen to as by `post`.
    """
    sending = asyncio.ensure_future(publishing)
    if not sending.done():
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            if not sending.cancelled():
                post(sending, failed)
            raise
    sending.result()


def post(publishing: Awaitable[object], failed: Failed | None = None) -> None:
    """See to it that something is published, which has begun. What fails is a hole: `failed` tells.

    They are waited for one after the other. So none is in the way of those behind it for longer
    than the carrier takes to accept or refuse it.
    """
    task = _posted.task
    if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
        waiting = _posted.waiting = Waiting()
        task = _posted.task = asyncio.create_task(_wait_for(waiting))
        task.add_done_callback(lambda _: _forget(waiting))
    assert _posted.waiting is not None
    _posted.waiting.append((publishing, failed))


async def _wait_for(waiting: Waiting) -> None:
    while waiting:
        publishing, failed = waiting.popleft()
        try:
            await publishing
        except Exception as error:  # noqa: BLE001 -- every carrier raises its own
            logger.debug("A frame was not published: %r", error)
            if failed is not None:
                failed()


def _forget(waiting: Waiting) -> None:
    """The event loop ends, if anything is left."""
    for publishing, _ in waiting:
        if isinstance(publishing, Coroutine):
            publishing.close()
