"""`fastapi-rooms nodes` and `doctor`, beside an edge and a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from fastapi_rooms import Backend, Gateway, RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.terminal import at_a_terminal, findings, run


@pytest.fixture
async def edge(own_redis: RedisServer) -> AsyncIterator[Gateway]:
    """An edge, and a backend for one of its two routes."""
    rooms = RoomManager(own_redis.url)
    gateway = Gateway(own_redis.url, routes={"/chat": "chat", "/game": "game"})
    async with gateway, Backend(FastAPI(), name="chat", adapter=rooms, capacity=7):
        await eventually(lambda: len(gateway.backends) == 1)
        yield gateway


async def test_nodes_shows_which_worker_is_an_edge_and_which_a_backend(
    edge: Gateway, own_redis: RedisServer
) -> None:
    found = {row["node"]: row for row in (await run("nodes", url=own_redis.url)).json}
    node = edge.manager.node
    routes = {"/chat": "chat", "/game": "game"}
    assert found[node]["edge"] == {"clients": 0, "routes": routes}
    (other,) = found.keys() - {node}
    assert found[other]["backend"] == {"name": "chat", "clients": 0, "capacity": 7}
    table = (await at_a_terminal("nodes", url=own_redis.url)).out
    words = " ".join(table.split())
    assert "edge" in words
    assert "backend" in words
    assert "chat, 0" in words


async def test_doctor_says_which_route_has_no_backend(
    edge: Gateway, own_redis: RedisServer
) -> None:
    code, found = await findings(own_redis.url)
    assert code == 1
    assert found["edges"]["grade"] == "ok"
    assert found["backends chat"]["grade"] == "ok"
    assert found["backends game"]["grade"] == "wrong"
    assert found["backends game"]["advice"] == "fastapi-rooms backend app:app --name game"
