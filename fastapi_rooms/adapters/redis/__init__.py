"""Redis between the workers: its pub/sub, over redis-py's connections. Keeps no key."""

from __future__ import annotations

from fastapi_rooms.adapters.redis.pubsub.adapter import RedisAdapter
from fastapi_rooms.adapters.redis.sharded import RedisClusterAdapter

__all__ = ["RedisAdapter", "RedisClusterAdapter"]
