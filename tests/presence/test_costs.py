"""What it takes of Redis to come into a room: round trips, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Literal, NamedTuple

import pytest
from redis.asyncio.cluster import RedisCluster as Client
from starlette.websockets import WebSocket

from fastapi_rooms import Adapter, RedisAdapter, RedisClusterAdapter, RoomManager, Socket
from fastapi_rooms.core.own_presence import MAX_CHANGES
from fastapi_rooms.testing import RedisCluster, RedisServer, WebSocketClient, eventually
from tests.conformance.backplanes import emptied, masters_of, slots_are_at_rest
from tests.unit.support import app_of

ROOMS = [f"room-{number}" for number in range(20)]
"""Rooms of many, on a cluster in slots of all its nodes."""

LATENCY = 0.05
"""Seconds each way: what is written without waiting for an answer is on its way before one."""


class Relay:
    """The wire to servers, which counts how often something is said to them after an answer.

    It counts over all connections: what is said by two of them at once is one round trip.
    """

    def __init__(self) -> None:
        self.turns = 0
        self.addresses: dict[tuple[str, int], tuple[str, int]] = {}
        self.pumps: list[asyncio.Future[None]] = []
        self._last: Literal["client", "server"] = "server"

    def said(self, by: Literal["client", "server"]) -> None:
        self.turns += by == "client" and self._last == "server"
        self._last = by

    async def serve(
        self, server: RedisServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        up, down = await asyncio.open_connection(server.host, server.port)
        pumps = (self.pump(reader, down, "client"), self.pump(up, writer, "server"))
        self.pumps += map(asyncio.ensure_future, pumps)

    async def pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        by: Literal["client", "server"],
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(2**20):
            self.said(by)
            loop.call_later(LATENCY, writer.write, data)
        writer.close()
        await writer.wait_closed()


class Place(NamedTuple):
    """Servers that are one, the wire to them, and a worker that has used its connections."""

    servers: Sequence[RedisServer]
    relay: Relay
    manager: RoomManager

    async def turns_of(self, *joins: Awaitable[object]) -> int:
        before = self.relay.turns
        await asyncio.gather(*joins)
        return self.relay.turns - before

    def members(self, room: str) -> int:
        """How many sockets are in a room, says the server that knows."""
        key = f"rooms:room:{{/#{room}}}"
        (server,) = [each for each in self.servers if key.encode() in each.command("KEYS", key)]
        return int(server.command("SCARD", key))


@asynccontextmanager
async def relay_to(servers: Sequence[RedisServer]) -> AsyncIterator[Relay]:
    relay = Relay()
    async with AsyncExitStack() as stack:
        for server in servers:
            listening = await asyncio.start_server(partial(relay.serve, server), "127.0.0.1", 0)
            await stack.enter_async_context(listening)
            relay.addresses[server.host, server.port] = listening.sockets[0].getsockname()
        yield relay
        await asyncio.gather(*relay.pumps)


@pytest.fixture(params=["server", "cluster"], ids=["redis", "cluster"])
async def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """On either; the worker says nothing by itself for a while."""
    slots_are_at_rest(monkeypatch)
    found: RedisServer | RedisCluster
    found = request.getfixturevalue(f"redis_{request.param}")
    servers = masters_of(found)
    with emptied(found):
        async with relay_to(servers) as relay:
            adapter = adapter_over(relay, servers)
            manager = RoomManager(adapter, heartbeat=600.0, join_timeout=60.0)
            manager.presence("*", user="user", grace=0)
            async with manager, AsyncExitStack() as stack:
                (first,) = await sockets_of(manager, stack, 1)
                await first.join(*ROOMS)
                yield Place(servers, relay, manager)


def adapter_over(relay: Relay, servers: Sequence[RedisServer]) -> Adapter:
    if len(servers) == 1:
        ((host, port),) = relay.addresses.values()
        return RedisAdapter(f"redis://{host}:{port}")
    client = Client.from_url(servers[0].url, address_remap=relay.addresses.__getitem__)
    return RedisClusterAdapter(client, refresh_interval=600.0)


async def sockets_of(manager: RoomManager, stack: AsyncExitStack, count: int) -> list[Socket]:
    """So many sockets, each of a user of its own."""
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket, data={"user": f"user-{len(sockets)}"}) as socket:
            sockets.append(socket)
            await socket.wait_closed()

    for _ in range(count):
        await stack.enter_async_context(WebSocketClient(app_of(endpoint)))
    await eventually(lambda: len(sockets) == count)
    return sockets


async def test_a_join_costs_one_round_trip_at_most(place: Place) -> None:
    async with AsyncExitStack() as stack:
        first, second = await sockets_of(place.manager, stack, 2)
        for socket in (first, second):  # one that has the channel subscribed to, and one more
            assert await place.turns_of(asyncio.ensure_future(socket.join("tea"))) <= 1
        many = [f"many-{number}" for number in range(20)]
        assert await place.turns_of(asyncio.ensure_future(first.join(*many))) <= 1


async def test_who_is_told_to_be_in_is_present_however_many_come_at_once(place: Place) -> None:
    async with AsyncExitStack() as stack:
        sockets = await sockets_of(place.manager, stack, MAX_CHANGES + 1)
        joins = [asyncio.ensure_future(socket.join("tea")) for socket in sockets]
        await joins[-1]
        assert place.members("tea") == len(sockets)
        await asyncio.gather(*joins)


async def test_10_000_joins_cost_fewer_than_100_round_trips(place: Place) -> None:
    async with AsyncExitStack() as stack:
        sockets = await sockets_of(place.manager, stack, 500)
        joins = [asyncio.ensure_future(socket.join(*ROOMS)) for socket in sockets]
        turns = await place.turns_of(*joins)
        assert 0 < turns < 100
        assert [place.members(room) for room in ROOMS] == [501] * len(ROOMS)
