"""Long messages, and many, on a Redis that disconnects those who are too far behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer
from tests.integration.gateway.site import Site, at, site

LONG = bytes(range(256)) * 40_000  # 10 MB: more than Redis keeps for a subscriber here
LIMIT = ("--client-output-buffer-limit", "pubsub", "4mb", "0", "0")


def app(rooms: RoomManager) -> FastAPI:
    """Says which attempt it is, and then what its client says."""
    made = FastAPI()

    @made.websocket("/echo")
    async def echo(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.send_text(f"attempt {socket.attempt}")
            async for data in socket.iter_bytes():
                await socket.send_bytes(data)

    return made


@pytest.fixture
async def strict() -> AsyncIterator[Site]:
    """Edges and backends on such a Redis."""
    async with RedisServer(arguments=LIMIT) as server, site(server.url) as made:
        yield made


async def test_messages_that_are_longer_than_redis_would_keep_disturb_nobody(
    strict: Site,
) -> None:
    port = await strict.edge()
    await strict.backend(app)
    async with (
        connect(at(port, "/echo")) as bystander,
        connect(at(port, "/echo"), max_size=None, compression=None) as one,
        connect(at(port, "/echo"), max_size=None, compression=None) as two,
    ):
        for client in (bystander, one, two):
            assert await client.recv() == "attempt 0"

        async def says(client: ClientConnection) -> None:
            await client.send(LONG)
            assert await client.recv() == LONG

        await asyncio.gather(says(one), says(two))
        for client in (bystander, one, two):
            await client.send(b"undisturbed")
            assert await client.recv() == b"undisturbed"
    assert strict.edges[0].health.reattached == 0
