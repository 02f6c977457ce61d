"""Endpoints of clients that read slowly are slow as well, and not dead."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager
from fastapi_rooms.gateway import conversation
from fastapi_rooms.testing import WebSocketClient, eventually
from tests.unit.gateway.support import Site

TIMEOUT = 0.15
"""Of a join: its endpoint waits for twice as long to hear something of it."""


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "STILL", 0.01)


async def past(seconds: float) -> None:
    """Until this time is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    await eventually(lambda: loop.time() > end)


@pytest.mark.parametrize("verb", ["join", "enter"])
async def test_a_join_and_the_coming_in_wait_for_a_client_that_is_slow(
    site: Site, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr("fastapi_rooms.worker.edge_namespace.RESUME_TIMEOUT", 0.0)

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        if verb == "enter":
            await websocket.send_text("before")
        async with rooms.connect(websocket) as socket:
            if verb == "join":
                await socket.receive_text()
                await socket.send_text("before")
            await socket.join("plain")
            await rooms.to("plain").send_text("to all")
            await socket.wait_closed()

    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=10)))
    backend = await site.backend(endpoint, site.manager(join_timeout=TIMEOUT))
    async with WebSocketClient(edge, "/") as client:
        if verb == "enter":
            client.stall()
        await client.send_text("go")
        if verb == "join":
            await eventually(lambda: edge.manager.sids)
            client.stall()
            await client.send_text("go on")
        (found,) = edge._conversations.values()
        await eventually(lambda: found._calls)
        await past(TIMEOUT * 6)
        assert found._calls == 1
        assert backend.clients == 1
        client.resume()
        assert [await client.receive() for _ in range(2)] == ["before", "to all"]


async def test_a_client_that_is_too_slow_is_closed_as_its_policy_says_while_a_join_waits(
    site: Site,
) -> None:
    ended: list[str] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("plain")
            await socket.receive_text()
            await socket.send_text("before" * 100)
            try:
                await socket.join("other")
            finally:
                ended.append("join")

    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=1000)))
    backend = await site.backend(endpoint, site.manager(join_timeout=TIMEOUT))
    async with WebSocketClient(edge, "/") as client:
        await eventually(lambda: "plain" in edge.manager.rooms)
        client.stall()
        await client.send_text("go")
        (found,) = edge._conversations.values()
        await eventually(lambda: found._calls)
        for _ in range(3):
            await backend.manager.to("plain").send_text("x" * 500)
        await eventually(lambda: not edge.manager.rooms)
        client.resume()
        assert await client.wait_closed() == 1013
        await eventually(lambda: ended)


async def test_an_edge_that_says_nothing_of_a_join_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "STILL", 3600.0)

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.receive_text()
            await socket.send_text("before")
            await socket.join("plain")

    edge = await site.edge(site.manager(outbox=OutboxPolicy(max_bytes=10)))
    backend = await site.backend(endpoint, site.manager(join_timeout=TIMEOUT))
    async with WebSocketClient(edge, "/") as client:
        await eventually(lambda: edge.manager.sids)
        client.stall()
        await client.send_text("go")
        await eventually(lambda: not backend.clients)
        client.resume()
        assert await client.receive() == "before"
        assert await client.wait_closed() == 1013
