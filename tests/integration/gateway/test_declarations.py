"""What rooms have, as backends declare it and edges learn it."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect

from fastapi_rooms import AdapterUnavailable, Backend, RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.people import come, present, state
from tests.integration.gateway.rooms_app import chat_app
from tests.integration.gateway.site import Site, at, closed, site


async def test_a_room_that_has_neither_is_asked_in_vain_as_at_a_worker(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend(chat_app)
    async with connect(at(port, "/plain?recent=5")) as client:
        assert (await closed(client))[0] == 1011
    async with connect(at(port, "/chat-tea")) as client:
        assert (await closed(client))[0] == 1011, "nobody knows who it is"


def _without_history(rooms: RoomManager) -> FastAPI:
    """An earlier version of the application, whose rooms have nothing."""
    app = FastAPI()

    @app.websocket("/{room}")
    async def chat(websocket: WebSocket, room: str) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join(room)
            await socket.send_json([socket.attempt])
            async for text in socket.iter_text():
                await rooms.to(room).send_text(text)

    return app


async def test_a_version_that_declares_more_finds_it_at_edges_that_run_already(both: Site) -> None:
    port = await both.edge()
    old = await both.backend(_without_history)
    clients = [await connect(at(port, "/chat-tea?name=ann&recent=9")) for _ in range(2)]
    for client in clients:
        await client.recv()
    await clients[0].send("plain")
    new = await both.backend(chat_app)
    for number in range(3):
        await new.manager.to("chat-tea").send_text(str(number))
    await both.stop(old)
    for client in clients:
        assert [await client.recv() for _ in range(4)] == ["plain", "0", "1", "2"]
        assert json.loads(await client.recv())[:3] == [1, None, 0]
    assert await present(state(new).presence, "chat-tea", "ann"), "its rooms know since now"
    bob, joined = await come(port, "/chat-tea?name=bob&recent=9")
    assert joined[4] == ["0", "1", "2"]
    await bob.send("all")
    for client in (*clients, bob):
        assert await client.recv() == "all"
        await client.close()
    await eventually(partial(present, state(new).presence, "chat-tea"))


async def test_what_an_edge_could_not_learn_is_not_done_by_halves(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.learning.PATIENCE", 0.01)
    port = await inmemory.edge()
    edge = inmemory.edges[0]
    adapter: Any = edge.manager._runtime.adapter

    async def away() -> list[Any]:
        raise AdapterUnavailable("away")

    monkeypatch.setattr(adapter, "declared", away)
    await inmemory.backend(chat_app)
    for path in ("/kept-tea?recent=5", "/chat-tea?name=ann"):
        async with connect(at(port, path)) as client:
            assert (await closed(client))[0] == 1013
    monkeypatch.undo()
    await edge._learner.learn()
    ann, joined = await come(port, "/chat-tea?name=ann&recent=5")
    assert joined[:3] == [0, None, 0]
    await ann.close()


async def test_a_backend_gets_clients_when_it_is_known_what_its_rooms_have(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await inmemory.edge()
    (edge,) = inmemory.edges
    adapter: Any = edge.manager._runtime.adapter
    read, may_read = adapter.declared, asyncio.Event()

    async def declared() -> list[Any]:
        await may_read.wait()
        return list(await read())

    monkeypatch.setattr(adapter, "declared", declared)
    starting = asyncio.create_task(inmemory.backend(chat_app))
    coming = asyncio.create_task(come(port, "/chat-tea?name=ann&recent=5"))
    await eventually(lambda: edge._learning._waiting)
    assert not edge.backends
    may_read.set()
    await starting
    ann, joined = await coming
    assert joined[:3] == [0, None, 0]
    await ann.close()


async def test_a_backend_is_not_heard_of_before_it_has_declared_what_its_rooms_have(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = inmemory.manager()
    adapter: Any = manager._runtime.adapter
    declare, away = adapter.declare, True

    async def declares(declarations: Any) -> None:
        if away:
            raise AdapterUnavailable("away")
        await declare(declarations)

    monkeypatch.setattr("fastapi_rooms.worker.declaring.RETRY", 0.01)
    monkeypatch.setattr("fastapi_rooms.gateway.member.INTERVAL", 0.01)
    monkeypatch.setattr(adapter, "declare", declares)
    backend = Backend(chat_app(manager), name="app", adapter=manager)
    async with backend:
        published: list[Any] = []
        monkeypatch.setattr(backend.frames, "publish", partial(_note, published))
        await eventually(lambda: not backend.may_be_known())
        backend.beat()
        assert published == []
        away = False
        await eventually(lambda: published, what="it is heard of")
        monkeypatch.undo()


async def _note(published: list[Any], *what: Any) -> None:
    published.append(what)


async def test_an_edge_that_may_not_read_what_is_declared_serves_plain_rooms(
    own_redis: RedisServer,
) -> None:
    commands = ("-@all", "+publish", "+subscribe", "+unsubscribe")
    own_redis.command("ACL", "SETUSER", "edge", "on", ">x", "&*", *commands)
    async with site(own_redis.url) as made:
        url, made.url = made.url, own_redis.url.replace("redis://", "redis://edge:x@")
        port = await made.edge()
        made.url = url
        await made.backend(chat_app)
        ann, joined = await come(port, "/plain?name=ann")
        assert joined[0] == 0
        async with connect(at(port, "/kept-tea?recent=5")) as client:
            assert (await closed(client))[0] == 1013
        await ann.send("hi")
        assert await ann.recv() == "hi"
        await ann.close()
