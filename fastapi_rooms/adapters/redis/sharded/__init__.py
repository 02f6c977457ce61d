"""Redis Cluster between the workers, by sharded pub/sub: every channel is at one of its masters."""

from __future__ import annotations

from fastapi_rooms.adapters.redis.sharded.adapter import RedisClusterAdapter

__all__ = ["RedisClusterAdapter"]
