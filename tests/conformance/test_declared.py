"""What workers declare of their rooms is read by others, as edges do: on every carrier."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol
from uuid import uuid4

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    MemoryAdapter,
    MemoryBus,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.adapters.base import Adapter, Outage
from fastapi_rooms.adapters.declarations import (
    HistoryDeclaration,
    PresenceDeclaration,
    SupportsDeclarations,
)
from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.testing import RedisCluster, RedisServer, eventually

TEA = HistoryDeclaration("/", "tea-*", Retention(100, 60.0))
MATE = HistoryDeclaration("/chat", "mate", Retention(1, 0.5))
WHO = PresenceDeclaration("/chat", "who-*", 10.0)


class Declaring(Adapter, SupportsDeclarations, Protocol):
    """An adapter that can."""


class _Receiver:
    def received(self, channel: bytes, data: bytes) -> None: ...

    def gap(self, outage: Outage) -> None: ...


@pytest.fixture(params=["memory", "redis_server", "redis_cluster"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[list[Declaring]]:
    """Two adapters on one carrier."""
    prefix, bus = uuid4().hex, MemoryBus()
    adapters: list[Declaring] = []
    async with AsyncExitStack() as stack:
        for _ in range(2):
            adapter: Declaring
            if request.param == "memory":
                adapter = MemoryAdapter(bus, prefix=prefix)
            elif request.param == "redis_server":
                server: RedisServer = request.getfixturevalue("redis_server")
                adapter = RedisAdapter(server.url, prefix=prefix)
            else:
                cluster: RedisCluster = request.getfixturevalue("redis_cluster")
                adapter = RedisClusterAdapter(cluster.url, prefix=prefix)
            await adapter.start(_Receiver(), ())
            stack.push_async_callback(adapter.close)
            adapters.append(adapter)
        yield adapters


async def test_what_one_declares_others_read(two: list[Declaring]) -> None:
    one, other = two
    assert await other.declared() == []
    await one.declare([TEA, WHO])
    await other.declare([MATE])
    assert {*await one.declared()} == {*await other.declared()} == {TEA, MATE, WHO}


async def test_of_one_pattern_the_last_word_counts(two: list[Declaring]) -> None:
    one, other = two
    await one.declare([TEA])
    longer = TEA._replace(retention=Retention(200, 60.0))
    await other.declare([longer])
    assert await one.declared() == [longer]


async def test_what_nobody_repeats_is_gone_from_a_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi_rooms.adapters.memory.bus.STALE", 0.01)
    bus = MemoryBus()
    bus.declare([TEA])
    await eventually(lambda: bus.declared() == [])


async def test_who_may_not_read_it_is_told_what_to_allow(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rules = ("on", ">x", "&rooms#*", "+@all", "-hgetall")
    own_redis.command("ACL", "SETUSER", "edge", *rules)
    adapter = RedisAdapter(own_redis.url.replace("redis://", "redis://edge:x@"))
    await adapter.start(_Receiver(), ())
    with pytest.raises(AdapterUnavailable, match=r"ACL SETUSER <user> \+hgetall"):
        await adapter.declared()
    assert "Rooms with a history or presence cannot be used" in caplog.text
    await adapter.publish(b"rooms#/#", b"it does not matter to plain rooms")
    await adapter.close()
