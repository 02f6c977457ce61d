"""Which adapters for Redis keep messages."""

from __future__ import annotations

from fastapi_rooms import RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.history import SupportsHistory


def test_one_redis_keeps_messages_and_so_does_the_master_of_several() -> None:
    assert isinstance(RedisAdapter("redis://localhost"), SupportsHistory)
    sentinels = RedisAdapter("redis+sentinel://localhost/mymaster")
    assert isinstance(sentinels, SupportsHistory)


def test_so_does_a_cluster() -> None:
    cluster = RedisClusterAdapter("redis+cluster://localhost:7000")
    assert isinstance(cluster, SupportsHistory)
