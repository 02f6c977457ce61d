"""What rooms have, learnt by an edge: before a backend gets its first client, and now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope
from fastapi_rooms.types import NodeId
from fastapi_rooms.worker.learning import Learner

logger = logging.getLogger("fastapi_rooms")

READ_INTERVAL = 5.0
"""Seconds from one time to the next."""

RETRY = 0.1
"""Seconds until it is tried again for a backend that waits."""

ATTEMPTS = 3
"""Of what fails at once, as the user of Redis may not read it; one that is away fails late."""

PATIENCE = 5.0
"""Seconds after which a backend gets clients all the same: its rooms may have nothing."""


class Learning:
    """Reads what is declared, and lets backends in that were heard for the first time.

    Args:
        learner: reads it.
        arrived: is told of a backend, and what that has last said, when it is known what rooms
            have of which it knows.
    """

    def __init__(self, learner: Learner, arrived: Callable[[NodeId, dict[str, Any]], None]) -> None:
        self._learner = learner
        self._arrived = arrived
        self._waiting: dict[NodeId, dict[str, Any]] = {}
        self._tasks = Tasks()
        self._due = 0.0

    def tick(self, now: float) -> None:
        """Read, if it is time."""
        if now >= self._due:
            self._due = now + READ_INTERVAL
            self._tasks.start(self._read_once(), "fastapi_rooms declarations")

    def again(self) -> None:
        """The carrier may be another now."""
        self._due = 0.0

    def heard(self, node: NodeId, about: dict[str, Any]) -> None:
        """A backend that was not known has said something."""
        if node not in self._waiting:
            self._tasks.start(self._arrive(node), "fastapi_rooms declarations")
        self._waiting[node] = about

    def gone(self, node: NodeId) -> None:
        """A backend is gone, known or not."""
        self._waiting.pop(node, None)

    async def close(self, timeout: float) -> None:
        """Read no more."""
        await self._tasks.cancel(timeout)

    async def _arrive(self, node: NodeId) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._read_until_done()
        about = self._waiting.pop(node, None)
        if about is not None:
            try:
                self._arrived(node, about)
            except MalformedEnvelope as error:
                logger.debug("Dropped a backend that says what cannot be: %s", error)

    async def _read_until_done(self) -> None:
        for _ in range(ATTEMPTS):
            if await self._read():
                return
            await asyncio.sleep(RETRY)

    async def _read_once(self) -> None:
        await self._read()

    async def _read(self) -> bool:
        try:
            await self._learner.learn()
        except AdapterUnavailable as error:
            logger.debug("It could not be read what rooms have: %s", error)
            return False
        except Exception:
            logger.exception("It could not be read what rooms have")
            return False
        return True
