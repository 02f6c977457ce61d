"""Adapters carry bytes between workers; [fastapi_rooms.adapters.base][] is their whole contract."""

from __future__ import annotations

from fastapi_rooms.adapters.base import Adapter, AdapterHealth, Outage, Receiver, SupportsShards
from fastapi_rooms.adapters.memory import MemoryAdapter, MemoryBus, named_bus
from fastapi_rooms.adapters.redis import RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.redis.links.urls import SCHEMES as REDIS_SCHEMES
from fastapi_rooms.errors import ConfigurationError

__all__ = [
    "Adapter",
    "AdapterHealth",
    "MemoryAdapter",
    "MemoryBus",
    "Outage",
    "Receiver",
    "RedisAdapter",
    "RedisClusterAdapter",
    "SupportsShards",
    "adapter_of",
]


def adapter_of(url: str, *, prefix: str, publish_timeout: float) -> Adapter:
    """The adapter that a URL stands for. Raises `ConfigurationError` if it stands for none."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "memory":
        return MemoryAdapter(named_bus(rest) if rest else None, prefix=prefix)
    if separator and scheme in REDIS_SCHEMES:
        return RedisAdapter(url, prefix=prefix, publish_timeout=publish_timeout)
    if separator and scheme in ("redis+cluster", "rediss+cluster"):
        return RedisClusterAdapter(url, prefix=prefix, publish_timeout=publish_timeout)
    shown = scheme + "://…" if separator else repr(url)  # a URL may hold a password
    raise ConfigurationError(
        f"No adapter is known for {shown}. Use memory://, redis://host:6379, rediss://host:6379, "
        "unix:///path/to/redis.sock, redis+sentinel://host:26379/name or "
        "redis+cluster://host:7000,host:7001, or give an adapter."
    )
