"""Where Redis is and how to log in, by a URL or by a client of the user's.

The result is one of redis-py's pools. It is only used to make connections, so it binds to no event
loop and survives a fork. No error message quotes a value: any could be a password.

    redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster?option=value
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fastapi_rooms.adapters.schemes import Carrier, names_of
from fastapi_rooms.errors import ConfigurationError

DEFAULT_SENTINEL_PORT = 26379
_FORM = "redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster"

ENCODING = "Percent-encode what is special in a URL: a password may have none of / ? # @ [ ]."
"""What most of the URLs that cannot be parsed have wrong."""

RULES = f"Ports are 1 to 65535. {ENCODING}"
"""What most of the addresses that cannot be parsed have wrong."""


class SentinelUrl(NamedTuple):
    """The parts of a `redis+sentinel://` URL."""

    sentinels: list[tuple[str, int]]
    master: str
    options: dict[str, Any]
    """For connections to the master, as redis-py takes them."""
    sentinel_options: dict[str, Any]
    """For connections to the sentinels."""


def pool_of(redis: str | Redis) -> ConnectionPool:
    """The pool that makes the connections. Raises `ConfigurationError`."""
    if isinstance(redis, Redis):
        return _checked(redis.connection_pool)
    if not isinstance(redis, str):
        raise ConfigurationError(
            f"RedisAdapter takes a URL or a redis.asyncio.Redis, not a {type(redis).__name__}. "
            "The synchronous redis.Redis cannot be used, its connections would block the loop."
        )
    if redis.partition("://")[0] in names_of(Carrier.REDIS_SENTINEL):
        return _sentinel_pool(parse_sentinel_url(redis))
    _check_port(redis)
    try:
        pool = ConnectionPool.from_url(redis, retry=no_retry())
    except (ValueError, RedisError) as error:
        raise ConfigurationError(f"The Redis URL cannot be used: {error}") from None
    return _checked(pool)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Parse a `redis+sentinel://` URL. Raises `ConfigurationError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(
            f"The Redis Sentinel URL cannot be used, it is not of the form {_FORM}"
        ) from None
    login, at, hosts = parts.netloc.rpartition("@")
    sentinels = [_sentinel(host) for host in hosts.split(",")]
    master = unquote(parts.path.removeprefix("/"))
    if not master or "/" in master or parts.fragment:
        raise ConfigurationError(
            "A Redis Sentinel URL ends with the name of the master, as its sentinels know it, and "
            f"nothing else: {_FORM} (a database number is given by ?db=)."
        )
    tls = parts.scheme == "rediss+sentinel"
    plain, for_sentinels, sentinel_tls = [], [], False
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "sentinel_ssl":
            sentinel_tls = value.lower() in ("1", "true", "yes")
        elif name.startswith("sentinel_"):
            for_sentinels.append((name.removeprefix("sentinel_"), value))
        else:
            plain.append((name, value))
    return SentinelUrl(
        sentinels,
        master,
        _options(login + at, plain, tls=tls),
        _options("", for_sentinels, tls=sentinel_tls),
    )


def parse_address(text: str, default_port: int) -> tuple[str, int] | None:
    """`host`, `host:port` or `[IPv6]:port`; `None` for anything else."""
    try:
        parts = SplitResult("", text, "", "", "")
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host or "@" in text or port == 0:
        return None
    return host, default_port if port is None else port


def _sentinel(text: str) -> tuple[str, int]:
    address = parse_address(text, DEFAULT_SENTINEL_PORT)
    if address is None:
        raise ConfigurationError(
            f"A Redis Sentinel URL names its sentinels as host:port,host:port: {_FORM}. {RULES}"
        )
    return address


def _options(login: str, query: list[tuple[str, str]], *, tls: bool) -> dict[str, Any]:
    """The connection options that redis-py parses from a login and a query."""
    scheme = "rediss" if tls else "redis"
    try:
        options: dict[str, Any] = dict(parse_url(f"{scheme}://{login}localhost?{urlencode(query)}"))
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


def _check_port(url: str) -> None:
    """Reject a bad port here, as Python's own error quotes it: it may be half of a password."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ConfigurationError(
            "The Redis URL cannot be used: its port is no number from 0 to 65535, or its host is "
            f"malformed. {ENCODING}"
        ) from None


def no_retry() -> Retry:
    """For connections of an adapter, which is the one to decide when to try again."""
    return Retry(NoBackoff(), 0)
