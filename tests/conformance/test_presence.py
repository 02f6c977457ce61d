"""The suite of adapters that know who is present, bound to all of ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.core import presence as core_presence
from fastapi_rooms.testing import RedisCluster, RedisServer, SentinelServers
from fastapi_rooms.testing.suite import PresenceSuite
from fastapi_rooms.testing.suite.backplane import stations
from fastapi_rooms.testing.suite.kept_messages import new_room
from fastapi_rooms.testing.suite.people import AT_ONCE, Worker
from tests.conformance.backplanes import (
    ServerBackplane,
    Servers,
    keys_of_rooms,
    left_clean,
    masters_of,
)


class PresentOnServers(ServerBackplane[Servers]):
    """Servers whose keys can be looked at."""

    async def kept(self) -> Collection[object]:
        found = list[object]()
        for node in masters_of(self._servers):
            for key in keys_of_rooms(node):
                is_fence = node.admin.type(key) == b"hash" and node.admin.hlen(key) == 2
                if not is_fence:
                    found.append(key)
        return found


class PresentInMemory:
    """A bus."""

    def __init__(self, bus: MemoryBus | None = None) -> None:
        self._bus = bus or MemoryBus()

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


class TestMemoryPresenceItself:
    """What only a process can have."""

    async def test_what_is_kept_of_a_dead_worker_is_forgotten_in_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bus = MemoryBus()
        async with stations(PresentInMemory(bus), 1) as (station,):
            worker = Worker(station)
            await worker.beat()
            room = new_room(station)
            await worker.enter(room, worker.new_socket("ann"))
            await worker.adapter.reap(room, worker.lease, AT_ONCE)
            await worker.adapter.bury(worker.lease)
            with bus.presence() as store:
                assert len(store) == 1
            for _ in bus.sweep():
                pass
            with bus.presence() as store:
                assert len(store) == 1
            monkeypatch.setattr(core_presence, "FENCE_TTL", 0)
            for _ in bus.sweep():
                pass
            with bus.presence() as store:
                assert len(store) == 0

    async def test_managers_in_several_threads_count_alike(self) -> None:
        bus = MemoryBus()
        room = RoomKey(b"/#tea", b"rooms#/#tea#")

        async def come_and_go() -> None:
            async with stations(PresentInMemory(bus), 1) as (station,):
                worker = Worker(station)
                await worker.beat()
                for _ in range(200):
                    socket = worker.new_socket("ann")
                    await worker.enter(room, socket)
                    await worker.leave(room, socket)
                await worker.adapter.bury(worker.lease)

        async with stations(PresentInMemory(bus), 1) as (here,):
            await here.subscribe(room.channel)
            threads = [
                threading.Thread(target=lambda: asyncio.run(come_and_go())) for _ in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            heard = Worker(here).heard(room)
            kinds = [each.kind for each in heard]
            assert kinds == ["join", "leave"] * (len(kinds) // 2)
            versions = [each.version for each in heard]
            assert versions == sorted({*versions})
            with bus.presence() as store:
                assert len(store) == 0
