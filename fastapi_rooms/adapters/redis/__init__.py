"""Redis between the workers: its pub/sub, over redis-py's connections. Keeps no key."""

from __future__ import annotations

from fastapi_rooms.adapters.redis.adapter import RedisAdapter

__all__ = ["RedisAdapter"]
