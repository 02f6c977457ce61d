"""Three workers, in memory and on Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus
from fastapi_rooms.testing import RedisCluster, RedisServer, SentinelServers
from tests.conformance.backplanes import emptied, slots_are_at_rest
from tests.faults.presence.scene import Workers


@pytest.fixture
async def redis_workers(redis_server: RedisServer) -> AsyncIterator[Workers]:
    """Three workers on one Redis."""
    with emptied(redis_server):
        async with Workers([redis_server.url] * 3) as workers:
            yield workers


@pytest.fixture(params=["memory", "redis"])
async def workers(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> AsyncIterator[Workers]:
    """Three workers in one process, or on one Redis."""
    bus = MemoryBus()
    in_memory = request.param == "memory"
    adapters = [MemoryAdapter(bus) if in_memory else redis_server.url for _ in range(3)]
    with emptied(redis_server):
        async with Workers(adapters) as workers:
            yield workers


@pytest.fixture(params=["memory", "redis_server", "sentinel_servers", "redis_cluster"])
async def everywhere(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Workers]:
    """Three workers on each carrier, for what it has to do with that."""
    if request.param == "memory":
        bus = MemoryBus()
        async with Workers([MemoryAdapter(bus) for _ in range(3)]) as workers:
            yield workers
        return
    slots_are_at_rest(monkeypatch)
    servers: RedisServer | SentinelServers | RedisCluster
    servers = request.getfixturevalue(request.param)
    with emptied(servers):
        async with Workers([servers.url] * 3) as workers:
            yield workers
