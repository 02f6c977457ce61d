"""The suite of adapters that know who is present, bound to all of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RedisAdapter, RedisClusterAdapter
from fastapi_rooms.testing import RedisCluster, RedisServer, SentinelServers
from fastapi_rooms.testing.suite import PresenceSuite
from tests.conformance.backplanes import ServerBackplane, Servers, left_clean, masters_of


class PresentOnServers(ServerBackplane[Servers]):
    """Servers whose keys can be looked at."""

    async def kept(self) -> Collection[object]:
        found = list[object]()
        for node in masters_of(self._servers):
            for key in node.admin.keys("*"):
                is_fence = node.admin.type(key) == b"hash" and node.admin.hlen(key) == 2
                if not is_fence:
                    found.append(key)
        return found


class PresentInMemory:
    """A bus."""

    def __init__(self) -> None:
        self._bus = MemoryBus()

    def adapter(self) -> MemoryAdapter:
        return MemoryAdapter(self._bus)

    async def subscribers(self, channel: bytes) -> int:
        return self._bus.subscriptions(channel)

    async def kept(self) -> Collection[object]:
        with self._bus.presence() as store:
            rooms = [room for room in store._rooms.values() if room.forgotten_at() < 0]
            return [*rooms, *store._leases._ends, *store._rooms_of, *store._rooms_of_user]


class TestMemoryPresence(PresenceSuite):
    """Who is present on a bus."""

    @pytest.fixture
    def backplane(self) -> PresentInMemory:
        return PresentInMemory()


class TestRedisPresence(PresenceSuite):
    """Who is present on one Redis."""

    @pytest.fixture(params=["", "?protocol=2"], ids=["RESP3", "RESP2"])
    async def backplane(
        self, request: pytest.FixtureRequest, redis_server: RedisServer
    ) -> AsyncIterator[PresentOnServers[RedisServer]]:
        yield PresentOnServers(redis_server, lambda s: RedisAdapter(s.url + request.param))
        redis_server.admin.flushall()
        await left_clean(redis_server)


class TestSentinelPresence(PresenceSuite):
    """Who is present on the master that sentinels tell of."""

    @pytest.fixture
    async def backplane(
        self, sentinel_servers: SentinelServers
    ) -> AsyncIterator[PresentOnServers[SentinelServers]]:
        yield PresentOnServers(sentinel_servers, lambda s: RedisAdapter(s.url))
        sentinel_servers.master.admin.flushall()
        await left_clean(sentinel_servers)


class TestRedisClusterPresence(PresenceSuite):
    """Who is present on three nodes."""

    @pytest.fixture
    async def backplane(
        self, redis_cluster: RedisCluster
    ) -> AsyncIterator[PresentOnServers[RedisCluster]]:
        yield PresentOnServers(redis_cluster, lambda c: RedisClusterAdapter(c.url))
        for node in redis_cluster.nodes:
            node.command("FLUSHALL")
        await left_clean(redis_cluster)
