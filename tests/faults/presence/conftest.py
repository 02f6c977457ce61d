"""Three workers, in memory and on Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus
from fastapi_rooms.testing import RedisServer
from tests.faults.presence.scene import Workers


@pytest.fixture
async def redis_workers(redis_server: RedisServer) -> AsyncIterator[Workers]:
    """Three workers on one Redis."""
    redis_server.command("FLUSHALL")
    async with Workers([redis_server.url] * 3) as workers:
        yield workers


@pytest.fixture(params=["memory", "redis"])
async def workers(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[Workers]:
    """Three workers in one process, or on one Redis."""
    bus = MemoryBus()
    redis_server.command("FLUSHALL")
    in_memory = request.param == "memory"
    adapters = [MemoryAdapter(bus) if in_memory else redis_server.url for _ in range(3)]
    async with Workers(adapters) as workers:
        yield workers
