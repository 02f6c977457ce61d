"""What the conformance suites run on, where real servers lie between the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

import pytest

from fastapi_rooms import Adapter
from fastapi_rooms.adapters.redis.sharded import node_pool
from fastapi_rooms.cluster import heartbeat
from fastapi_rooms.testing import RedisCluster, RedisServer, SentinelServers, eventually

Servers = TypeVar("Servers", bound=RedisServer | SentinelServers | RedisCluster)


class ServerBackplane(Generic[Servers]):
    """A Redis, or several that are one, and a way for adapters to reach them."""

    def __init__(self, servers: Servers, make_adapter: Callable[[Servers], Adapter]) -> None:
        self._servers = servers
        self.adapter = partial(make_adapter, servers)

    async def subscribers(self, channel: bytes) -> int:
        return self._servers.numsub(channel)


async def left_clean(servers: RedisServer | SentinelServers | RedisCluster) -> None:
    """Nothing of any test is left on them: no connection, so no subscription, and no key.

    But for what was declared there, which outlives those who did.
    """
    await eventually(lambda: not servers.connections(), what="no connection is left")
    if not isinstance(servers, SentinelServers):
        assert servers.channels() == []
    assert [key for node in masters_of(servers) for key in keys_of_rooms(node)] == []


def keys_of_rooms(node: RedisServer) -> list[bytes]:
    """The keys that are to be gone with those who are in rooms."""
    return [key for key in node.command("KEYS", "*") if not key.endswith(b":declared")]


def masters_of(servers: RedisServer | SentinelServers | RedisCluster) -> Sequence[RedisServer]:
    """Those that have keys."""
    if isinstance(servers, SentinelServers):
        return [servers.master]
    return [servers] if isinstance(servers, RedisServer) else servers.nodes


@contextmanager
def emptied(servers: RedisServer | SentinelServers | RedisCluster) -> Iterator[None]:
    """Servers that others use, too, and that have no key at first and in the end."""
    for node in masters_of(servers):
        node.admin.flushall()
    yield
    for node in masters_of(servers):
        node.admin.flushall()


def slots_are_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers know that no slot of a cluster has moved lately.

    One that has just started cannot: for some seconds, being told that nobody got a message, it
    takes subscribers for being on their way, and waits. Tests in which no slot moves would spend
    a second at each start with that, and more for each worker that dies.
    """
    monkeypatch.setattr(node_pool, "UNREST", 0.0)


def nobody_is_slow_to_greet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers wait less for others to answer, where RabbitMQ does not say how many there are.

    Every start would take a fifth of a second.
    """
    monkeypatch.setattr(heartbeat, "QUIET", 0.02)
