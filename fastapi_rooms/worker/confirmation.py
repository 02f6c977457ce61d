"""When a join may go on: the adapter has confirmed it, or the carrier is away and that will do.

By `when_unavailable` clients that come in an outage are refused, or admitted. Who is admitted has
joined what the adapter has not confirmed, and is owed a gap: `Adapter.want` is asked for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from fastapi_rooms.adapters.base import Adapter, SupportsShards
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel
from fastapi_rooms.worker.settings import Settings


class Confirmation:
    """Waits for an adapter."""

    def __init__(self, adapter: Adapter, settings: Settings) -> None:
        self._adapter = adapter
        self._shards = adapter if isinstance(adapter, SupportsShards) else None
        self._timeout = settings.join_timeout
        self._admits = settings.admits

    async def wait(self, channels: Collection[Channel], *, surely: bool = False) -> None:
        """Return when channels are confirmed, or, to admit, wanted while the carrier is away.

        `surely`: nobody is admitted without, as these are rooms in which nothing may be missed.

        It is away when its health says so; else, where it does not answer, when the time is up. One
        that refuses is not away.

        Raises:
            AdapterUnavailable: they were refused, or not confirmed in time.
        """
        admits = self._admits and not surely
        if admits:
            away = {channel for channel in channels if self._is_away(channel)}
            if away:
                self._adapter.want(away)
                channels = [channel for channel in channels if channel not in away]
                if not channels:
                    return
        try:
            async with asyncio.timeout(self._timeout):
                await self._adapter.subscribe(channels)
        except TimeoutError:
            if not admits:
                raise self._too_late() from None
            self._adapter.want(channels)

    def _is_away(self, channel: Channel) -> bool:
        if self._adapter.health.connected:
            return False
        return self._shards is None or not self._shards.is_reachable(channel)

    def _too_late(self) -> AdapterUnavailable:
        health = self._adapter.health
        down = "" if health.connected or not health.reason else f" It is down: {health.reason}."
        return AdapterUnavailable(
            f"The adapter did not confirm the join in {self._timeout} s. Nothing was joined.{down}"
        )
