"""Managers of an application that are not its backend's, and the clients that an edge holds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from uuid import uuid4

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import (
    AdapterUnavailable,
    Gateway,
    RequestRefused,
    RequestTimeout,
    RoomManager,
    RoomsError,
)
from fastapi_rooms.adapters import (
    Adapter,
    MemoryAdapter,
    MemoryBus,
    RabbitMQAdapter,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from fastapi_rooms.worker.edge_carrier import ADVICE, difference
from tests.unit.gateway.support import Site

BUS, URL = MemoryBus(), "redis://127.0.0.1:1"


class Elsewhere:
    """An adapter of somebody's own, of which nothing is known but that it is one."""

    def __init__(self, bus: MemoryBus | None = None, prefix: str = "rooms") -> None:
        self._inner = MemoryAdapter(bus, prefix=prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (MemoryAdapter(), RedisAdapter(URL), "it is on memory, and the backend 'app' on Redis"),
        (RabbitMQAdapter("amqp://127.0.0.1:1"), RedisAdapter(URL), "on RabbitMQ, and"),
        (RedisAdapter(URL), RedisClusterAdapter("redis+cluster://127.0.0.1:1"), "Redis Cluster"),
        (MemoryAdapter(), MemoryAdapter(), "on another memory bus than the backend 'app'"),
        (MemoryAdapter(BUS, prefix="a"), MemoryAdapter(BUS), "prefix is 'a', and that of the ba"),
        (RedisAdapter(URL, prefix="a"), RedisAdapter(URL, prefix="b"), "'a', and that of the"),
        (Elsewhere(prefix="a"), MemoryAdapter(), "prefix is 'a'"),
    ],
)
def test_what_keeps_managers_from_hearing_each_other_is_known_by_their_adapters(
    ours: Adapter, theirs: Adapter, words: str
) -> None:
    assert words in difference(ours, theirs, "app")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (MemoryAdapter(BUS), MemoryAdapter(BUS)),
        (RedisAdapter("redis://localhost:1"), RedisAdapter("redis://127.0.0.1:1")),
        (Elsewhere(), RedisAdapter(URL)),
        (Elsewhere(), MemoryAdapter()),
    ],
)
def test_adapters_that_may_hear_each_other_are_not_told_apart(ours: Any, theirs: Any) -> None:
    assert difference(ours, theirs, "app") == ""


async def _serve(site: Site, other: RoomManager, *, accepts: bool = False) -> Gateway:
    """An edge, and a backend whose endpoint uses another manager."""

    async def chat(_: RoomManager, websocket: WebSocket) -> None:
        if accepts:
            await websocket.accept()
        async with other.connect(websocket) as socket:
            await socket.join("tea")
            async for text in socket.iter_text():
                await other.to("tea").send_text(text)

    edge = await site.edge()
    await site.backend(chat)
    return edge


async def test_a_manager_that_cannot_reach_the_edge_connects_nobody(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with RoomManager() as other:
        edge = await _serve(site, other)
        with pytest.raises(Rejected) as refused:
            await WebSocketClient(edge, "/").open()
    assert refused.value.status == 500
    assert f"UsageError: {_WORDS}" in caplog.text


_WORDS = (
    "This RoomManager cannot reach the client, whose rooms are at an edge: it is on another "
    f"memory bus than the backend 'app'. {ADVICE}"
)


async def test_a_client_that_its_endpoint_has_accepted_is_closed_by_that(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with RoomManager() as other:
        edge = await _serve(site, other, accepts=True)
        async with WebSocketClient(edge, "/") as client:
            with pytest.raises(WebSocketDisconnect) as closed:
                await client.receive()
    assert closed.value.code == 1011
    assert _WORDS in caplog.text


async def _talk(edge: Gateway) -> None:
    async with WebSocketClient(edge, "/") as client:
        await _is_heard(client)


async def test_a_manager_on_the_same_carrier_is_as_good_as_the_backends(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.manager() as other:
        await _talk(await _serve(site, other))
    assert not caplog.records


async def test_what_is_local_to_it_is_what_is_local_to_the_backend(site: Site) -> None:
    async with site.manager() as other:
        edge = await _serve(site, other)
        async with WebSocketClient(edge, "/") as client:
            await _is_heard(client)
            await other.local.to("tea").send_text("here")
            assert await client.receive() == "here"
            await other.local.to("coffee").send_text("nobody is there")
            await other.local.volatile.to("tea").send_text("volatile")
            assert await client.receive() == "volatile"
        await eventually(lambda: not other._runtime.run.frames.has_clients)
        await other.local.to("tea").send_text("nobody is left")


async def _is_heard(client: WebSocketClient) -> None:
    await client.send_text("hi")
    assert await client.receive() == "hi"


async def test_an_edge_that_a_manager_has_not_heard_of_yet_is_asked_who_it_is(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    async with site.manager() as other:
        edge = await _serve(site, other)
        cluster = other._runtime.run.cluster
        cluster._monitor.gone(edge.manager.node, left=True)
        assert not cluster.knows(edge.manager.node)
        await _talk(edge)
        await eventually(lambda: cluster.knows(edge.manager.node))
    assert not caplog.records


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def _come(edge: Gateway, other: RoomManager) -> None:
    """Come, be asked about, and go."""
    async with WebSocketClient(edge, "/"):
        await eventually(lambda: not other._runtime.edge_carrier._tasks)


async def test_a_manager_that_does_not_find_the_edge_says_so_once_in_each_run(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    other = RoomManager(Elsewhere())
    async with other:
        edge = await _serve(site, other)
        for _ in range(2):
            await _come(edge, other)
    (said,) = _warnings(caplog)
    assert said.startswith(f"A RoomManager does not find the edge {edge.manager.node}, which holds")
    assert said.endswith(ADVICE)
    async with other:
        await _come(edge, other)
    assert len(_warnings(caplog)) == 2


@pytest.mark.parametrize(
    ("error", "warnings"),
    [
        (RequestTimeout("describe", 5, frozenset({uuid4().hex}), [], {}), 1),
        (RequestRefused("describe", [], {uuid4().hex: "not now"}), 0),
        (AdapterUnavailable("away"), 0),
    ],
)
async def test_only_an_edge_that_does_not_answer_is_taken_to_be_elsewhere(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: RoomsError,
    warnings: int,
) -> None:
    asked = 0

    async def request(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise error

    async with RoomManager(Elsewhere()) as other:
        monkeypatch.setattr(other._runtime.run.cluster, "request", request)
        edge = await _serve(site, other)
        for _ in range(2):
            await _come(edge, other)
    assert (asked, len(_warnings(caplog))) == (2 - warnings, warnings)


async def test_a_manager_that_stops_asks_no_more(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()

    async def request(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with RoomManager(Elsewhere()) as other:
        monkeypatch.setattr(other._runtime.run.cluster, "request", request)
        async with WebSocketClient(await _serve(site, other), "/"):
            await eventually(lambda: other._runtime.edge_carrier._tasks)
    assert ended.is_set()
    assert not _warnings(caplog)
