"""Endpoints behind an edge that use another manager than their backend's."""

from __future__ import annotations

import logging

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.site import Site, at, site


async def _serve(made: Site, other: RoomManager) -> int:
    """An edge and a backend, whose endpoint uses another manager."""
    app = FastAPI()

    @app.websocket("/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        async with other.connect(websocket) as socket:
            await socket.join(room)
            await socket.send_text("in")
            async for text in socket.iter_text():
                await other.to(room).send_text(text)

    port = await made.edge()
    await made.backend(lambda _: app)
    return port


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_manager_on_another_redis_says_that_it_does_not_find_the_edge(
    redis: RedisServer, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(own_redis.url) as made:
        other = made.manager()
        made.url = redis.url
        async with other, connect(at(await _serve(made, other), "/tea")) as client:
            assert await client.recv() == "in"
            await eventually(lambda: _warnings(caplog))
    (said,) = _warnings(caplog)
    assert said.startswith("A RoomManager does not find the edge ")


async def test_a_manager_that_calls_the_same_redis_by_another_name_serves_as_the_backends(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with site(redis.url.replace("127.0.0.1", "localhost")) as made:
        other = made.manager()
        made.url = redis.url
        async with other, connect(at(await _serve(made, other), "/tea")) as client:
            assert await client.recv() == "in"
            await client.send("hi")
            assert await client.recv() == "hi"
    assert not _warnings(caplog)
