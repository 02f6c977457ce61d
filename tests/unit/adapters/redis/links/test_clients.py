"""The things people give where a URL, a client or an adapter is wanted."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.sentinel import Sentinel

from fastapi_rooms import (
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    RedisAdapter,
    RedisClusterAdapter,
    RoomManager,
)

ASYNC = redis.asyncio.Redis(host="h")
SYNC = redis.Redis(host="h")
CLUSTER = RedisCluster(startup_nodes=[ClusterNode("h", 7000)])
TAKERS = (RoomManager, RedisAdapter, RedisClusterAdapter, Emitter, AsyncEmitter)


def adapter_in(rooms: RoomManager) -> Any:
    return rooms._runtime.adapter


def test_a_manager_makes_the_adapter_of_a_client() -> None:
    adapter = adapter_in(RoomManager(ASYNC, prefix="shop", publish_timeout=2.0))
    assert isinstance(adapter, RedisAdapter)
    assert adapter._pool is ASYNC.connection_pool
    assert (adapter.prefix, adapter._settings.publish_timeout) == ("shop", 2.0)
    adapter = adapter_in(RoomManager(CLUSTER, prefix="shop"))
    assert isinstance(adapter, RedisClusterAdapter)
    assert adapter.prefix == "shop"


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "environment variable"),
        (3, r"A builtins\.int was given"),
        ({"host": "h"}, r"A builtins\.dict was given"),
        (redis.asyncio.Redis, r"class redis\.asyncio\.client\.Redis was given"),
        (ASYNC.connection_pool, "ConnectionPool was given"),
        (Sentinel([("h", 1)]), "Sentinel was given"),  # type: ignore[no-untyped-call]
        (RoomManager, "class fastapi_rooms.manager.RoomManager was given"),
    ],
)
def test_what_nobody_takes_is_refused_by_everyone(take: Any, given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{told}.* {take.__name__} takes"):
        take(given)


@pytest.mark.parametrize(
    ("take", "given", "told"),
    [
        (RoomManager, SYNC, "synchronous"),
        (RedisAdapter, SYNC, "synchronous"),
        (RedisClusterAdapter, SYNC, "synchronous"),
        (RedisAdapter, CLUSTER, "another kind"),
        (RedisClusterAdapter, ASYNC, "another kind"),
        (AsyncEmitter, SYNC, "synchronous"),
        (Emitter, ASYNC, "another kind"),
        (Emitter, CLUSTER, "another kind"),
        (RoomManager, RedisAdapter, "call it"),
        (RoomManager, RoomManager(), "RoomManager was given"),
    ],
)
def test_a_client_of_another_kind_is_refused_with_the_right_one(
    take: Any, given: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"{told}.*{take.__name__} takes .*redis\."):
        take(given)


def test_a_fake_redis_is_told_what_there_is_for_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeRedis(redis.asyncio.Redis):
        """As that of fakeredis."""

    monkeypatch.setitem(sys.modules, "fakeredis", ModuleType("fakeredis"))
    FakeRedis.__module__ = "fakeredis.aioredis"
    for take in (RoomManager, RedisAdapter):
        with pytest.raises(ConfigurationError, match=r"memory://.*RedisServer"):
            take(FakeRedis())
