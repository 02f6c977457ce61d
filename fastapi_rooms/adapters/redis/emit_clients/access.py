"""How clients of redis-py are made for emitters and tools, and closed: by a URL, or by a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.retry
import redis.sentinel
from redis.asyncio.connection import SSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import refusal
from fastapi_rooms.adapters.redis.links.urls import parse_sentinel_url, pool_of
from fastapi_rooms.adapters.redis.sharded.access import access_of
from fastapi_rooms.adapters.schemes import EMITTER_CARRIERS, Carrier, required_scheme
from fastapi_rooms.adapters.urls import Url, text_of

SyncClient: TypeAlias = "redis.Redis | redis.RedisCluster"
AsyncClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.RedisCluster"


class _Flavour(NamedTuple):
    """One half of redis-py: its classes have the same names, and take the same arguments."""

    client: Any
    cluster: Any
    node: Any
    sentinel: Any
    retry: Any
    name: str
    emitter: str


_SYNC = _Flavour(
    redis.Redis,
    redis.RedisCluster,
    redis.cluster.ClusterNode,
    redis.sentinel.Sentinel,
    redis.retry.Retry,
    "redis",
    "Emitter",
)
_ASYNC = _Flavour(
    redis.asyncio.Redis,
    redis.asyncio.RedisCluster,
    redis.asyncio.cluster.ClusterNode,
    redis.asyncio.sentinel.Sentinel,
    redis.asyncio.retry.Retry,
    "redis.asyncio",
    "AsyncEmitter",
)


class Access(NamedTuple):
    """How a client is made, and closed."""

    open: Callable[[], Any]
    """Makes a client; a cluster's synchronous one connects at once."""
    owned: bool
    """Whether the emitter has made it, and closes it."""
    sharded: bool
    """Whether it is a cluster's, whose messages go to the node of their channel."""
    all_of: Callable[[Any], list[Any]] = lambda client: [client]
    """A client, and the clients to close with it."""


def sync_access(where: Url | SyncClient, timeout: float) -> Access:
    """For a `SyncSender`. Raises `ConfigurationError`."""
    return _access(where, _SYNC, timeout)


def async_access(where: Url | AsyncClient, timeout: float) -> Access:
    """For an `AsyncSender`. Raises `ConfigurationError`."""
    return _access(where, _ASYNC, timeout)


def _access(where: object, flavour: _Flavour, timeout: float) -> Access:
    if isinstance(where, flavour.client | flavour.cluster):
        sharded = isinstance(where, flavour.cluster)
        return Access(lambda: where, owned=False, sharded=sharded)
    url = text_of(where)
    if url is None:
        takes = f"a URL, a {flavour.name}.Redis or a {flavour.name}.RedisCluster"
        raise refusal(where, flavour.emitter, takes)
    scheme = required_scheme(url, flavour.emitter, *EMITTER_CARRIERS)
    url = canonical_url(url)
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    # Redis may have closed a connection that was idle: that is no reason for an error.
    retry_once = {
        "retry": flavour.retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "retry_on_error": [RedisConnectionError],  # redis-py 5 needs both
    }
    if scheme.carrier is Carrier.REDIS_CLUSTER:
        return _cluster(url, flavour, limits)
    pool_of(url)  # raises for a URL that cannot be used
    if scheme.carrier is Carrier.REDIS_SENTINEL:
        return _sentinel(url, flavour, limits, retry_once)
    return Access(
        lambda: flavour.client.from_url(url, **limits, **retry_once), owned=True, sharded=False
    )


def _cluster(url: str, flavour: _Flavour, limits: dict[str, Any]) -> Access:
    seeds, options, connection_class, _ = access_of(url)
    options = {**limits, **options, "ssl": issubclass(connection_class, SSLConnection)}
    del options["retry"]  # a cluster's client has its own way to retry

    def connect() -> Any:
        nodes = [flavour.node(seed.host, seed.port) for seed in seeds]
        return flavour.cluster(startup_nodes=nodes, **options)

    return Access(connect, owned=True, sharded=True)


def _sentinel(
    url: str, flavour: _Flavour, limits: dict[str, Any], retry_once: dict[str, Any]
) -> Access:
    sentinels, master, options, sentinel_options = parse_sentinel_url(url)

    def connect() -> Any:
        manager = flavour.sentinel(
            sentinels, sentinel_kwargs={**limits, **sentinel_options, **retry_once}
        )
        return manager.master_for(master, **{**limits, **options, **retry_once})

    def all_of(client: Any) -> list[Any]:
        return [client, *client.connection_pool.sentinel_manager.sentinels]

    return Access(connect, owned=True, sharded=False, all_of=all_of)
