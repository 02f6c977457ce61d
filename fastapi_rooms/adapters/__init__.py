"""Adapters carry bytes between workers; [fastapi_rooms.adapters.base][] is their whole contract.

base                 the contract
history              what an adapter can do for rooms that remember
presence             what an adapter can do for rooms that know who is present
declarations         what workers tell others of their rooms
foreign              what an adapter can do where others publish on its carrier
schemes, urls        URLs, their parts, and the carriers they lead to
memory/              the adapter within one process
redis/               the adapters for Redis and Redis Cluster
rabbitmq/            the adapter for RabbitMQ

What adapters over a network are made of, whatever the carrier:
supervisor           keeps a link open
link_owner           has that link, or a reason why not
connection_pair      one connection that publishes and one that receives
paired               what is asked of adapters that have one such pair
receiving            asks for what is wanted, and delivers what arrives
connection_status    whether an adapter is connected, and what the log says of an outage
probe                proves that what is published arrives
command_queue        what is published, through an outage, within a budget of bytes
subscriptions        what is wanted against what is confirmed: pure
reception            what has been missed: pure
retries, forbidden   what the carrier refuses
delegating           what is asked of adapters that know who is present
waiters              the joins that wait for a confirmation
"""

from __future__ import annotations

from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from fastapi_rooms.adapters.base import (
    Adapter,
    AdapterHealth,
    Outage,
    Receiver,
    SupportsIsLive,
    SupportsShards,
)
from fastapi_rooms.adapters.declarations import (
    Declaration,
    HistoryDeclaration,
    PresenceDeclaration,
    SupportsDeclarations,
)
from fastapi_rooms.adapters.history import SupportsHistory
from fastapi_rooms.adapters.memory import MemoryAdapter, MemoryBus, named_bus
from fastapi_rooms.adapters.presence import SupportsPresence
from fastapi_rooms.adapters.rabbitmq.adapter import RabbitMQAdapter
from fastapi_rooms.adapters.rabbitmq.links.access import verifies
from fastapi_rooms.adapters.rabbitmq.report import RabbitMQReport, report_on_rabbitmq
from fastapi_rooms.adapters.redis import RedisAdapter, RedisClusterAdapter, canonical_url, refusal
from fastapi_rooms.adapters.redis.declarations import read_declarations
from fastapi_rooms.adapters.schemes import FORMS, SCHEMES, Carrier, one_of, required_scheme
from fastapi_rooms.adapters.urls import Url, text_of

__all__ = [
    "FORMS",
    "SCHEMES",
    "Adapter",
    "AdapterHealth",
    "Carrier",
    "Declaration",
    "HistoryDeclaration",
    "MemoryAdapter",
    "MemoryBus",
    "Outage",
    "PresenceDeclaration",
    "RabbitMQAdapter",
    "RabbitMQReport",
    "Receiver",
    "RedisAdapter",
    "RedisClusterAdapter",
    "SupportsDeclarations",
    "SupportsHistory",
    "SupportsIsLive",
    "SupportsPresence",
    "SupportsShards",
    "adapter_of",
    "canonical_url",
    "read_declarations",
    "report_on_rabbitmq",
    "verifies",
]

AdapterLike: TypeAlias = Adapter | Url | Redis | RedisCluster
"""What a manager takes: an adapter, or what one is made of."""


def adapter_of(given: AdapterLike, *, prefix: str, publish_timeout: float) -> Adapter:
    """The adapter that a URL or a client stands for; one that is an adapter already stays.

    Raises `ConfigurationError` for anything else.
    """
    settings: dict[str, Any] = {"prefix": prefix, "publish_timeout": publish_timeout}
    url = text_of(given)
    if url is not None:
        match required_scheme(url, "RoomManager", *Carrier).carrier:
            case Carrier.MEMORY:
                name = url.partition("://")[2]
                return MemoryAdapter(named_bus(name) if name else None, prefix=prefix)
            case Carrier.REDIS | Carrier.REDIS_SENTINEL:
                return RedisAdapter(url, **settings)
            case Carrier.REDIS_CLUSTER:
                return RedisClusterAdapter(url, **settings)
            case Carrier.RABBITMQ:
                return RabbitMQAdapter(url, **settings)
    if isinstance(given, Redis):
        return RedisAdapter(given, **settings)
    if isinstance(given, RedisCluster):
        return RedisClusterAdapter(given, **settings)
    if isinstance(given, type) or not all(hasattr(given, name) for name in _OF_AN_ADAPTER):
        takes = f"{one_of(FORMS)}; a redis.asyncio.Redis or RedisCluster; or an adapter"
        raise refusal(given, "RoomManager", takes)
    return given  # type: ignore[return-value]  # by its form


_OF_AN_ADAPTER = ("prefix", "start", "publish", "subscribe", "unsubscribe", "close")
