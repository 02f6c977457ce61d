"""Adapters carry bytes between workers; [fastapi_rooms.adapters.base][] is their whole contract.

base                 the contract
schemes              URLs, and the carriers they lead to
memory               the adapter within one process
redis/               the adapters for Redis and Redis Cluster

What adapters over a network are made of, whatever the carrier:
supervisor           keeps a link open
connection_status    whether an adapter is connected, and what the log says of an outage
probe                proves that what is published arrives
command_queue        what is published, through an outage, within a budget of bytes
subscriptions        what is wanted against what is confirmed: pure
reception            what has been missed: pure
retries, forbidden   what the carrier refuses
waiters              the joins that wait for a confirmation
"""

from __future__ import annotations

from fastapi_rooms.adapters.base import Adapter, AdapterHealth, Outage, Receiver, SupportsShards
from fastapi_rooms.adapters.memory import MemoryAdapter, MemoryBus, named_bus
from fastapi_rooms.adapters.redis import RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.schemes import FORMS, SCHEMES, Carrier, one_of, scheme_of
from fastapi_rooms.errors import ConfigurationError

__all__ = [
    "FORMS",
    "SCHEMES",
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
    scheme = scheme_of(url)
    if scheme is None:
        name, separator, _ = url.partition("://")
        shown = name + "://…" if separator else repr(url)  # the rest may hold a password
        raise ConfigurationError(
            f"No adapter is known for {shown}. Use {one_of(FORMS)}, or give an adapter."
        )
    match scheme.carrier:
        case Carrier.MEMORY:
            name = url.partition("://")[2]
            return MemoryAdapter(named_bus(name) if name else None, prefix=prefix)
        case Carrier.REDIS | Carrier.REDIS_SENTINEL:
            return RedisAdapter(url, prefix=prefix, publish_timeout=publish_timeout)
        case Carrier.REDIS_CLUSTER:
            return RedisClusterAdapter(url, prefix=prefix, publish_timeout=publish_timeout)
