"""Tells the carrier what rooms have, for emitters, the command line and edges."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from fastapi_rooms.adapters.declarations import (
    Declaration,
    HistoryDeclaration,
    PresenceDeclaration,
    SupportsDeclarations,
)
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.errors import AdapterUnavailable

if TYPE_CHECKING:
    from fastapi_rooms.worker.local_namespace import LocalNamespace

logger = logging.getLogger("fastapi_rooms")

REPEAT = 20.0
"""Seconds between two times: what is not repeated is forgotten after some minutes."""

RETRY = 1.0
"""Seconds until it is tried again if it could not be told."""


def declarations_of(namespaces: Iterable[LocalNamespace]) -> Iterator[Declaration]:
    """What an application has declared of the rooms of namespaces."""
    for here in namespaces:
        for pattern, retention in here.handlers.history.items():
            yield HistoryDeclaration(here.name, pattern, retention)
        for pattern, rule in here.handlers.presence.items():
            yield PresenceDeclaration(here.name, pattern, rule.grace)


class Declaring:
    """Tells the carrier at the start of a run, after each reconnect, and from time to time.

    Args:
        adapter: the way to the carrier.
        declarations: what the application has declared; at least one.
    """

    def __init__(self, adapter: SupportsDeclarations, declarations: Sequence[Declaration]) -> None:
        self._adapter = adapter
        self._declarations = declarations
        self._wanted = asyncio.Event()
        self._tasks = Tasks()
        self.is_told = False
        """Whether the carrier has been told."""

    async def start(self, *, connected: bool) -> None:
        """Begin; if the carrier is there, it has been told when this returns."""
        if not connected or not await self._tell():
            self._wanted.set()
        self._tasks.start(self._repeat(), "fastapi_rooms declarations")

    def again(self) -> None:
        """The carrier may be another now, or an empty one."""
        self._wanted.set()

    async def stop(self, timeout: float) -> None:
        """Tell no more. What was told stays for those who send while no worker runs."""
        await self._tasks.cancel(timeout)

    async def _repeat(self) -> None:
        delay = REPEAT
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wanted.wait()
            self._wanted.clear()
            delay = REPEAT if await self._tell() else RETRY

    async def _tell(self) -> bool:
        try:
            await self._adapter.declare(self._declarations)
        except AdapterUnavailable as error:
            logger.debug("It could not be told what rooms have: %s", error)
            return False
        self.is_told = True
        return True
