"""What the namespaces of one manager share, and the run they are in, if they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from fastapi_rooms.adapters.base import Adapter, SupportsShards
from fastapi_rooms.core.names import Channels
from fastapi_rooms.errors import NotStarted
from fastapi_rooms.types import Channel
from fastapi_rooms.worker.run import ManagedNamespace, Run
from fastapi_rooms.worker.settings import Settings


class Health(NamedTuple):
    """How a manager is, for a readiness route. Times are seconds since the epoch."""

    ready: bool
    """Whether it runs and is not draining, and messages reach and leave this worker."""
    connected: bool
    """Whether the adapter is connected and has confirmed every room that it may have."""
    since: float
    """Since when `connected` has been what it is."""
    last_received: float | None
    """When anything last came from the other side of the adapter."""
    reconnects: int
    """How many times it was lost and made whole again."""
    buffered: int
    """Bytes that wait to be published."""
    dropped: int
    """Messages that could not be published, or came in and were not understood."""
    reason: str
    """Why it is not connected, for people; empty when it is, or when nothing is known yet."""
    forbidden: int
    """Rooms with members here that Redis has come to forbid: they hear this worker only."""


class Runtime:
    """The adapter, the settings, the namespaces, and the present run."""

    def __init__(self, adapter: Adapter, settings: Settings) -> None:
        self.adapter = adapter
        self.settings = settings
        self.channels = Channels(adapter.prefix)
        self.sharded = isinstance(adapter, SupportsShards)
        """Whether the adapter's channels are in shards, which can be lost one by one."""
        self.namespaces: dict[str, ManagedNamespace] = {}
        self._run: Run | None = None

    @property
    def run(self) -> Run:
        """The present run. Raises `NotStarted` if there is none."""
        run = self._run
        if run is None:
            raise NotStarted
        return run

    @property
    def health(self) -> Health:
        """How it is now; never raises."""
        run, adapter = self._run, self.adapter.health
        return Health(
            ready=run is not None and not run.draining and adapter.connected,
            connected=adapter.connected,
            since=adapter.since,
            last_received=adapter.last_received,
            reconnects=adapter.reconnects,
            buffered=adapter.buffered,
            dropped=adapter.dropped + (run.malformed if run is not None else 0),
            reason=adapter.reason,
            forbidden=adapter.forbidden,
        )

    def release(self, channels: Iterable[Channel]) -> None:
        """Release channels that the present run holds; harmless when there is none."""
        if self._run is not None:
            self._run.release(channels)

    async def start(self) -> None:
        """Begin a run."""
        self._run = Run(self.adapter, self.settings, self.channels, self.namespaces)
        try:
            await self._run.start()
        except BaseException:
            await self._close()
            raise

    async def stop(self) -> None:
        """Drain, and end the run; leave no connection, task or subscription."""
        try:
            await self.run.drain()
        finally:  # also if the drain was cut short: nobody may leave in the middle of the next run
            try:
                await asyncio.gather(*(namespace.close() for namespace in self.namespaces.values()))
            finally:
                await self._close()

    async def _close(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            await run.close()

    def abandon(self) -> None:
        """Forget a run whose event loop is gone, and with it everything that could be closed."""
        for namespace in self.namespaces.values():
            namespace.forget()
        self._run = None
