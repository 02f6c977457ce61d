"""Redis between the workers: its pub/sub, over redis-py's connections. Keeps no key."""

from __future__ import annotations

from fastapi_rooms.adapters.redis.adapter import RedisAdapter
from fastapi_rooms.adapters.redis.cluster import RedisClusterAdapter

__all__ = ["RedisAdapter", "RedisClusterAdapter"]
