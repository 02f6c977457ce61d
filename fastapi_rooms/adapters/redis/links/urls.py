"""Where Redis is and how to log in, by a URL or by a client of the user's.

The result is one of redis-py's pools. It is only used to make connections, so it binds to no event
loop and survives a fork. No error message quotes a value: any could be a password.

    redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster?option=value
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import check_real, refusal
from fastapi_rooms.adapters.schemes import Carrier, required_scheme
from fastapi_rooms.adapters.urls import ENCODING, Url, address_of, split, text_of
from fastapi_rooms.errors import ConfigurationError

DEFAULT_SENTINEL_PORT = 26379


class SentinelUrl(NamedTuple):
    """The parts of a `redis+sentinel://` URL."""

    sentinels: list[tuple[str, int]]
    master: str
    options: dict[str, Any]
    """For connections to the master, as redis-py takes them."""
    sentinel_options: dict[str, Any]
    """For connections to the sentinels."""


def pool_of(redis: Url | Redis) -> ConnectionPool:
    """The pool that makes the connections. Raises `ConfigurationError`."""
    if isinstance(redis, Redis):
        check_real(redis)
        return _checked(redis.connection_pool)
    url = text_of(redis)
    if url is None:
        raise refusal(redis, "RedisAdapter", "a URL or a redis.asyncio.Redis")
    scheme = required_scheme(url, "RedisAdapter", Carrier.REDIS, Carrier.REDIS_SENTINEL)
    if scheme.carrier is Carrier.REDIS_SENTINEL:
        return _sentinel_pool(parse_sentinel_url(url))
    url = canonical_url(url)
    try:
        pool = ConnectionPool.from_url(url, retry=no_retry())
    except (ValueError, RedisError):
        raise ConfigurationError(f"The Redis URL cannot be used. {ENCODING}") from None
    return _checked(pool)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Parse a `redis+sentinel://` URL. Raises `ConfigurationError`."""
    parts = split(canonical_url(url))
    plain, for_sentinels, sentinel_tls = [], [], False
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "sentinel_ssl":
            sentinel_tls = True
        elif name.startswith("sentinel_"):
            for_sentinels.append((name.removeprefix("sentinel_"), value))
        else:
            plain.append((name, value))
    found = [address_of(host, DEFAULT_SENTINEL_PORT) for host in parts.hosts.split(",")]
    return SentinelUrl(
        [address for address in found if address is not None],
        unquote(parts.path[1:]),
        _options(parts.login, plain, tls=parts.scheme.startswith("rediss")),
        _options("", for_sentinels, tls=sentinel_tls),
    )


def _options(login: str, query: list[tuple[str, str]], *, tls: bool) -> dict[str, Any]:
    """The connection options that redis-py parses from a login and a query."""
    scheme, at = "rediss" if tls else "redis", "@" if login else ""
    try:
        url = f"{scheme}://{login}{at}localhost?{urlencode(query)}"
        options: dict[str, Any] = dict(parse_url(url))
    except ValueError as error:
        raise ConfigurationError(f"The Redis Sentinel URL cannot be used: {error}") from None
    for name in ("host", "connection_class"):
        options.pop(name, None)
    if tls:
        options["ssl"] = True
    return {**options, "retry": no_retry()}


def _sentinel_pool(url: SentinelUrl) -> ConnectionPool:
    """A pool as `Sentinel.master_for` makes it, which is what users bring as well."""
    try:
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            url.sentinels, sentinel_kwargs=url.sentinel_options
        )
        client = sentinel.master_for(url.master, **url.options)
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(f"The Redis Sentinel URL cannot be used: {error}") from None
    return _checked(client.connection_pool)


def _checked(pool: ConnectionPool) -> ConnectionPool:
    """The pool, if it can make connections, and makes them to a master."""
    pools = [pool]
    if isinstance(pool, SentinelConnectionPool):
        pools += [client.connection_pool for client in pool.sentinel_manager.sentinels]
    try:
        for each in pools:
            each.make_connection()  # type: ignore[no-untyped-call]  # opens nothing
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(
            f"Redis cannot be connected to with these options: {error}"
        ) from None
    if isinstance(pool, SentinelConnectionPool) and not pool.is_master:
        raise ConfigurationError(
            "RedisAdapter needs a master: what is published on a replica reaches nobody else. "
            "Make the client by Sentinel.master_for."
        )
    return pool


def no_retry() -> Retry:
    """For connections of an adapter, which is the one to decide when to try again."""
    return Retry(NoBackoff(), 0)
