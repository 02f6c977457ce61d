"""How edges and backends are, and what they say of themselves, in one process."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_rooms import Backend, Gateway, RoomManager, UsageError
from fastapi_rooms.testing import WebSocketClient, eventually

app = FastAPI()


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4().hex}"


async def test_health_tells_readiness_and_counts(url: str) -> None:
    routes = {"/chat": "chat", "/talk": "chat", "/game": "game"}
    gateway, backend = Gateway(url, routes=routes), Backend(app, name="chat", adapter=url)
    assert gateway.health.reason == backend.health.reason == "It is not running."
    async with gateway:
        assert not gateway.health.ready
        assert gateway.health.reason == "None of its routes has a backend."
        async with backend:
            await eventually(lambda: gateway.health.ready)
            assert gateway.health.backends == {"chat": 1, "game": 0}
            async with WebSocketClient(gateway, "/chat"):
                assert (gateway.health.clients, gateway.health.attached) == (1, 1)
                assert (backend.health.clients, backend.health.edges) == (1, 1)
                await backend.manager.drain()
                assert not backend.health.ready
        assert backend.health.reason == "It is not running."


async def test_counts_of_what_was_lost_and_reattached_go_on(url: str) -> None:
    gateway, backend = Gateway(url, routes={"/": "chat"}), Backend(app, name="chat", adapter=url)
    async with gateway, backend, WebSocketClient(gateway, "/chat") as client:
        gateway.gap()
        await client.send_text("again")
        assert await client.receive_text() == "again"
        assert gateway.health.reattached == 1
        assert gateway.health.lost == 0


async def test_workers_say_which_of_them_is_an_edge_or_a_backend(url: str) -> None:
    gateway = Gateway(url, routes={"/chat": "chat"})
    async with gateway, Backend(app, name="chat", adapter=url, capacity=5) as backend:
        await eventually(lambda: len(gateway.backends) == 1)
        found: dict[str, Any] = {w.node: w for w in await backend.manager.workers()}
        edge = found[gateway.manager.node]
        assert (edge.edge.clients, edge.edge.routes) == (0, {"/chat": "chat"})
        assert edge.backend is None
        of_backend = found[backend.manager.node].backend
        assert (of_backend.name, of_backend.clients, of_backend.capacity) == ("chat", 0, 5)


async def test_a_manager_is_shared_by_no_second_gateway_or_backend(url: str) -> None:
    rooms = RoomManager(url)
    async with rooms, Backend(app, name="chat", adapter=rooms):
        for second in (
            Backend(app, name="game", adapter=rooms),
            Gateway(rooms, routes={"/": "chat"}),
        ):
            with pytest.raises(UsageError, match="Each needs a manager of its own"):
                await second.__aenter__()


async def test_a_heartbeat_that_fails_is_not_the_last(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.member.INTERVAL", 0.01)
    async with Gateway(url, routes={"/chat": "chat"}) as gateway:
        beats: list[float] = []

        def tick(now: float, *, late: bool) -> None:
            beats.append(now)
            raise RuntimeError("on purpose")

        monkeypatch.setattr(gateway, "tick", tick)
        await eventually(lambda: len(beats) >= 2)
    assert "A heartbeat of an edge or a backend has failed" in caplog.text
