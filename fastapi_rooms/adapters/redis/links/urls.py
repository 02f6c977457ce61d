"""What a Redis URL or a client of the user's says: where Redis is, and how to get in.

What comes of it is one of redis-py's pools. It is only ever used to make connections, so it binds
to no event loop and survives a fork. No message here quotes a value: any could be a password.

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

from fastapi_rooms.errors import ConfigurationError

SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
SCHEMES = ("redis", "rediss", "unix", *SENTINEL_SCHEMES)
"""The schemes of URLs that `pool_of` understands."""

DEFAULT_SENTINEL_PORT = 26379
_FORM = "redis+sentinel://user:password@sentinel1:26379,sentinel2:26379/mymaster"


class SentinelUrl(NamedTuple):
    """What such a URL says."""

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
    if redis.partition("://")[0] in SENTINEL_SCHEMES:
        return _sentinel_pool(parse_sentinel_url(redis))
    _check_port(redis)
    try:
        pool = ConnectionPool.from_url(redis, retry=_no_retry())
    except (ValueError, RedisError) as error:
        raise ConfigurationError(f"The Redis URL cannot be used: {error}") from None
    return _checked(pool)


def parse_sentinel_url(url: str) -> SentinelUrl:
    """Take a `redis+sentinel://` URL apart. Raises `ConfigurationError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError(
            f"The Redis Sentinel URL cannot be used, it is not of the form {_FORM}"
        ) from None
    login, at, hosts = parts.netloc.rpartition("@")
    sentinels = [_address(host) for host in hosts.split(",")]
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


def _address(text: str) -> tuple[str, int]:
    """`host`, `host:port` or `[IPv6]:port`."""
    problem = ConfigurationError(
        f"A Redis Sentinel URL names its sentinels as host:port,host:port: {_FORM}. Ports are 1 to "
        "65535. Percent-encode what is special in a URL: a password may have none of / ? # @ [ ]."
    )
    try:
        parts = SplitResult("", text, "", "", "")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise problem from None
    if not host or "@" in text or port == 0:
        raise problem
    return host, DEFAULT_SENTINEL_PORT if port is None else port


def _options(login: str, query: list[tuple[str, str]], *, tls: bool) -> dict[str, Any]:
    """What redis-py makes of them."""
    scheme = "rediss" if tls else "redis"
    try:
        options: dict[str, Any] = dict(parse_url(f"{scheme}://{login}localhost?{urlencode(query)}"))
    except ValueError as error:
        raise ConfigurationError(f"The Redis Sentinel URL cannot be used: {error}") from None
    for name in ("host", "connection_class"):
        options.pop(name, None)
    if tls:
        options["ssl"] = True
    return {**options, "retry": _no_retry()}


def _sentinel_pool(url: SentinelUrl) -> ConnectionPool:
    """A pool such as `Sentinel.master_for` makes, which is what users bring as well."""
    try:
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            url.sentinels, sentinel_kwargs=url.sentinel_options
        )
        client = sentinel.master_for(url.master, **url.options)
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(f"The Redis Sentinel URL cannot be used: {error}") from None
    return _checked(client.connection_pool)


def _checked(pool: ConnectionPool) -> ConnectionPool:
    """The pool, if it can make connections, and to a master."""
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
    """Python's words for a bad port quote it, and it may be half a password."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ConfigurationError(
            "The Redis URL cannot be used: its port is no number from 0 to 65535, or its host is "
            "malformed. Percent-encode what is special in a URL: a password may have none of "
            "/ ? # @ [ ]."
        ) from None


def _no_retry() -> Retry:
    """Trying again is the adapter's own business."""
    return Retry(NoBackoff(), 0)
