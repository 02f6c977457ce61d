"""How the nodes of a cluster are reached, by a URL or by a client of the user's.

redis+cluster://user:password@host:7000,host:7001?option=value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool, parse_url
from redis.exceptions import RedisError

from fastapi_rooms.adapters.redis.links.urls import RULES, no_retry, parse_address
from fastapi_rooms.adapters.redis.sharded.slots import Node
from fastapi_rooms.adapters.schemes import Carrier, names_of
from fastapi_rooms.errors import ConfigurationError

DEFAULT_PORT = 6379
_FORM = "redis+cluster://user:password@host:7000,host:7001"
_NOT_OURS = (
    "host",
    "port",
    "maint_notifications_config",
    "oss_cluster_maint_notifications_handler",
)
"""Connection options of a client that hold for its own connections only."""


class Access(NamedTuple):
    """Makes connection pools. Opens nothing, so it binds to no event loop and survives a fork."""

    seeds: tuple[Node, ...]
    """The nodes to ask first."""
    options: dict[str, Any]
    """For every connection, as redis-py takes them."""
    connection_class: type[Connection]
    remap: Callable[[tuple[str, int]], tuple[str, int]] | None = None
    """From the address that a node announces to the address it is reached at."""

    def pool(self, node: Node) -> ConnectionPool:
        """A pool of connections to a node. Raises `TypeError` for an unknown option."""
        if self.remap is not None and node not in self.seeds:
            node = Node(*self.remap(node))
        return ConnectionPool(self.connection_class, host=node.host, port=node.port, **self.options)


def access_of(redis: str | RedisCluster) -> Access:
    """How the nodes are reached. Raises `ConfigurationError`."""
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
        {**options, "retry": no_retry()},
        nodes[0].connection_class,
        client.nodes_manager.address_remap,
    )


def _of_url(url: str) -> Access:
    """Parse a URL. No error quotes a part of it: any could belong to a password."""
    try:
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        scheme = parts.scheme.removesuffix("+cluster")
        one = parts._replace(scheme=scheme, netloc=f"{login}{at}localhost")
        options: dict[str, Any] = dict(parse_url(one.geturl()))
    except ValueError as error:
        raise ConfigurationError(f"The Redis Cluster URL cannot be used: {error}") from None
    if parts.scheme not in names_of(Carrier.REDIS_CLUSTER):
        raise ConfigurationError(f"A Redis Cluster URL is of the form {_FORM}.")
    if options.pop("db", 0) != 0 or parts.path.strip("/0"):
        raise ConfigurationError("A Redis Cluster has no databases but 0: leave the number out.")
    options.pop("host", None)
    connection_class = options.pop("connection_class", Connection)
    seeds = tuple(_seed(host) for host in hosts.split(","))
    return Access(seeds, {**options, "retry": no_retry()}, connection_class)


def _seed(text: str) -> Node:
    address = parse_address(text, DEFAULT_PORT)
    if address is None:
        raise ConfigurationError(
            f"A Redis Cluster URL names some of its nodes as host:port,host:port: {_FORM}. {RULES}"
        )
    return Node(*address)
