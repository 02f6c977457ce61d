"""What it takes of Redis to come into a room: round trips, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.core.own_presence import MAX_CHANGES
from fastapi_rooms.testing import RedisServer, WebSocketClient, eventually
from tests.unit.support import app_of

LATENCY = 0.05
"""Seconds each way: what is written without waiting for an answer is on its way before one."""


class Relay:
    """The wire to a Redis, which counts how often something is said to it after an answer.

    It counts over all connections: what is said by two of them at once is one round trip.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.turns = 0
        self.port = 0
        self.pumps: list[asyncio.Future[None]] = []
        self._last: Literal["client", "server"] = "server"

    def said(self, by: Literal["client", "server"]) -> None:
        self.turns += by == "client" and self._last == "server"
        self._last = by

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection(self.server.host, self.server.port)
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


@asynccontextmanager
async def relay_to(server: RedisServer) -> AsyncIterator[Relay]:
    relay = Relay(server)
    async with await asyncio.start_server(relay.serve, "127.0.0.1", 0) as listening:
        relay.port = listening.sockets[0].getsockname()[1]
        yield relay
        await asyncio.gather(*relay.pumps)


@pytest.fixture
async def relay(redis_server: RedisServer) -> AsyncIterator[Relay]:
    redis_server.admin.flushall()
    async with relay_to(redis_server) as relay:
        yield relay


@pytest.fixture
async def manager(relay: Relay) -> AsyncIterator[RoomManager]:
    """A worker that has used its connections, and says nothing by itself for a while."""
    manager = RoomManager(f"redis://127.0.0.1:{relay.port}", heartbeat=600.0)
    manager.presence("*", user="user", grace=0)
    async with manager, AsyncExitStack() as stack:
        (first,) = await sockets_of(manager, stack, 1)
        await first.join("warm")
        yield manager


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


async def turns_of(relay: Relay, *joins: Awaitable[object]) -> int:
    before = relay.turns
    await asyncio.gather(*joins)
    return relay.turns - before


async def test_a_join_costs_one_round_trip_at_most(manager: RoomManager, relay: Relay) -> None:
    async with AsyncExitStack() as stack:
        first, second = await sockets_of(manager, stack, 2)
        for socket in (first, second):  # one that has the channel subscribed to, and one more
            assert await turns_of(relay, asyncio.ensure_future(socket.join("tea"))) <= 1
        many = [f"room-{number}" for number in range(20)]
        assert await turns_of(relay, asyncio.ensure_future(first.join(*many))) <= 1


async def test_who_is_told_to_be_in_is_present_however_many_come_at_once(
    manager: RoomManager, redis_server: RedisServer
) -> None:
    async with AsyncExitStack() as stack:
        sockets = await sockets_of(manager, stack, MAX_CHANGES + 1)
        joins = [asyncio.ensure_future(socket.join("tea")) for socket in sockets]
        await joins[-1]
        assert redis_server.admin.scard("rooms:room:{/#tea}") == len(sockets)
        await asyncio.gather(*joins)


async def test_10_000_joins_cost_fewer_than_100_round_trips(
    manager: RoomManager, relay: Relay, redis_server: RedisServer
) -> None:
    rooms = [f"room-{number}" for number in range(20)]
    async with AsyncExitStack() as stack:
        sockets = await sockets_of(manager, stack, 500)
        joins = [asyncio.ensure_future(socket.join(*rooms)) for socket in sockets]
        assert await turns_of(relay, *joins) < 100
        counts = [redis_server.admin.scard(f"rooms:room:{{/#{room}}}") for room in rooms]
        assert counts == [500] * 20
