"""Workers whose rooms remember, in memory, through Redis and through a Redis Cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RoomManager
from fastapi_rooms.adapters import Adapter
from fastapi_rooms.testing import RedisCluster, RedisClusterNode, RedisServer
from tests.conformance.history.scene import SIZE, Make, Pair


@pytest.fixture(params=["memory", "redis", "cluster"])
def make(request: pytest.FixtureRequest, own_redis: RedisServer) -> Iterator[Make]:
    """Make a worker's manager, which remembers what is said in `chat-*`."""
    adapters: dict[str, Callable[[], Adapter | str]] = {
        "memory": partial(MemoryAdapter, MemoryBus()),
        "redis": lambda: own_redis.url,
    }
    nodes: list[RedisClusterNode] = []
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        nodes = cluster.nodes
        adapters["cluster"] = lambda: cluster.url

    def make(**settings: object) -> RoomManager:
        rooms = RoomManager(adapters[request.param](), **settings)  # type: ignore[arg-type]
        rooms.history("chat-*", size=SIZE, ttl=60)
        return rooms

    yield make
    for node in nodes:
        node.command("FLUSHALL")


@pytest.fixture
async def pair(make: Make) -> AsyncIterator[Pair]:
    """Two workers."""
    async with make() as one, make() as two:
        yield one, two
