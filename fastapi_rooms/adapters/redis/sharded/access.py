"""How the nodes of a cluster are reached, by a URL or by a client of the user's.

redis+cluster://user:password@host:7000,host:7001?option=value
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import Connection, ConnectionPool, parse_url
from redis.exceptions import RedisError

from fastapi_rooms.adapters.redis.links.canonical import canonical_url
from fastapi_rooms.adapters.redis.links.clients import check_real, refusal
from fastapi_rooms.adapters.redis.links.urls import no_retry
from fastapi_rooms.adapters.redis.sharded.slots import Node
from fastapi_rooms.adapters.schemes import Carrier, required_scheme
from fastapi_rooms.adapters.urls import Url, address_of, split, text_of
from fastapi_rooms.errors import ConfigurationError

DEFAULT_PORT = 6379
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


def access_of(redis: Url | RedisCluster) -> Access:
    """How the nodes are reached. Raises `ConfigurationError`."""
    url = text_of(redis)
    if isinstance(redis, RedisCluster):
        check_real(redis)
        access = _of_client(redis)
    elif url is not None:
        required_scheme(url, "RedisClusterAdapter", Carrier.REDIS_CLUSTER)
        access = _of_url(url)
    else:
        raise refusal(redis, "RedisClusterAdapter", "a URL or a redis.asyncio.RedisCluster")
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
    parts = split(canonical_url(url))
    at = "@" if parts.login else ""
    scheme = parts.scheme.removesuffix("+cluster")
    try:
        options: dict[str, Any] = dict(
            parse_url(f"{scheme}://{parts.login}{at}localhost?{parts.query}")
        )
    except ValueError as error:
        raise ConfigurationError(f"The Redis Cluster URL cannot be used: {error}") from None
    if options.pop("db", 0) != 0:
        raise ConfigurationError("A Redis Cluster has no databases but 0: leave the number out.")
    options.pop("host", None)
    connection_class = options.pop("connection_class", Connection)
    found = [address_of(host, DEFAULT_PORT) for host in parts.hosts.split(",")]
    seeds = tuple(Node(*address) for address in found if address is not None)
    return Access(seeds, {**options, "retry": no_retry()}, connection_class)
