"""The suite of adapters that keep messages, bound to Redis on both protocols."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import RedisAdapter
from fastapi_rooms.testing import Direction, RedisProxy, RedisServer
from fastapi_rooms.testing.suite import HistorySuite
from tests.conformance.backplanes import ServerBackplane, left_clean

TURNS = 20
"""Enough for what was sent to reach Redis, while its replies are kept back."""


class RedisHistoryBackplane(ServerBackplane[RedisServer]):
    """A Redis behind a proxy, which keeps replies back when it breaks connections."""

    def __init__(self, proxy: RedisProxy, query: str) -> None:
        super().__init__(proxy.server, lambda _: RedisAdapter(proxy.url + query))
        self._proxy = proxy

    async def break_connections(self) -> None:
        self._proxy.stall(Direction.TO_CLIENT)
        for _ in range(TURNS):
            await asyncio.sleep(0)
            self._servers.admin.ping()
        self._proxy.cut()
        self._proxy.resume()


class TestRedisHistory(HistorySuite):
    """Adapters on one Redis."""

    @pytest.fixture(params=["", "?protocol=2"], ids=["RESP3", "RESP2"])
    async def backplane(
        self, request: pytest.FixtureRequest, redis_server: RedisServer
    ) -> AsyncIterator[RedisHistoryBackplane]:
        async with RedisProxy(redis_server) as proxy:
            yield RedisHistoryBackplane(proxy, request.param)
        redis_server.admin.flushall()  # numberings are kept for 30 days
        await left_clean(redis_server)
