"""How the nodes of a cluster are reached: what a URL or a client of one's own says.

redis+cluster://user:password@host:7000,host:7001?option=value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fastapi_rooms.adapters.redis.sharded.slots import Node
from fastapi_rooms.errors import ConfigurationError

SCHEMES = ("redis+cluster", "rediss+cluster")
DEFAULT_PORT = 6379
_FORM = "redis+cluster://user:password@host:7000,host:7001"
_NOT_OURS = (
    "host",
    "port",
    "maint_notifications_config",
    "oss_cluster_maint_notifications_handler",
)
"""What a client says of its own connections, and of nobody else's."""


class Access(NamedTuple):
    """Opens nothing by itself, so it binds to no event loop and survives a fork."""

    seeds: tuple[Node, ...]
    """The nodes to ask first."""
    options: dict[str, Any]
    """For every connection, as redis-py takes them."""
    connection_class: type[Connection]
    remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None
    """From where a node says it is to where it is reached."""

    def pool(self, node: Node) -> ConnectionPool:
        """What makes connections to a node. Raises `TypeError` for options that there are not."""
        if self.remap is not None and node not in self.seeds:
            node = Node(*self.remap(node))
        return ConnectionPool(self.connection_class, host=node.host, port=node.port, **self.options)


def access_of(redis: str | RedisCluster) -> Access:
    """What a URL or a client says. Raises `ConfigurationError`."""
    if isinstance(redis, RedisCluster):
        access = _of_client(redis)
    elif isinstance(redis, str):
        access = _of_url(redis)
    else:
        raise ConfigurationError(
            "RedisClusterAdapter takes a URL or a redis.asyncio.RedisCluster, not a "
            f"{type(redis).__name__}. A synchronous client's connections would block the loop."
        )
    try:
        access.pool(access.seeds[0]).make_connection()  # type: ignore[no-untyped-call]  # opens nothing
    except (TypeError, ValueError, RedisError) as error:
        raise ConfigurationError(
            f"A Redis Cluster cannot be connected to with these options: {error}"
        ) from None
    return access


def _of_client(client: RedisCluster) -> Access:
    # redis-py 5 keeps them at its manager of nodes only.
    nodes = list(getattr(client, "startup_nodes", client.nodes_manager.startup_nodes.values()))
    options = {k: v for k, v in nodes[0].connection_kwargs.items() if k not in _NOT_OURS}
    return Access(
        tuple(Node(node.host, int(node.port)) for node in nodes),
        {**options, "retry": _no_retry()},
        nodes[0].connection_class,
        client.nodes_manager.address_remap,
    )


def _of_url(url: str) -> Access:
    """No message quotes a part of the URL: any could be of a password."""
    try:
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        scheme = parts.scheme.removesuffix("+cluster")
        one = parts._replace(scheme=scheme, netloc=f"{login}{at}localhost")
        options: dict[str, Any] = dict(parse_url(one.geturl()))
    except ValueError as error:
        raise ConfigurationError(f"The Redis Cluster URL cannot be used: {error}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigurationError(f"A Redis Cluster URL is of the form {_FORM}.")
    if options.pop("db", 0) != 0 or parts.path.strip("/0"):
        raise ConfigurationError("A Redis Cluster has no databases but 0: leave the number out.")
    options.pop("host", None)
    connection_class = options.pop("connection_class", Connection)
    seeds = tuple(_seed(host) for host in hosts.split(","))
    return Access(seeds, {**options, "retry": _no_retry()}, connection_class)


def _seed(text: str) -> Node:
    """`host`, `host:port` or `[IPv6]:port`."""
    problem = ConfigurationError(
        f"A Redis Cluster URL names some of its nodes as host:port,host:port: {_FORM}. Ports are "
        "1 to 65535. Percent-encode what is special in a URL: a password may have none of "
        "/ ? # @ [ ]."
    )
    try:
        parts = SplitResult("", text, "", "", "")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise problem from None
    if not host or port == 0:
        raise problem
    return Node(host, DEFAULT_PORT if port is None else port)


def _no_retry() -> Retry:
    """Trying again is the adapter's own business."""
    return Retry(NoBackoff(), 0)
