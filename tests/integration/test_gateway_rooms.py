"""Rooms that remember and know who is present, through edges that are told nothing of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, WebSocket
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import (
    AdapterUnavailable,
    Backend,
    Gap,
    Gateway,
    Outage,
    Presence,
    PresenceEvent,
    RequestRefused,
    RoomManager,
)
from fastapi_rooms.presence.turns import CallInTurns
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway_rooms_app import chat_app
from tests.integration.test_gateway import Site, at, closed, site


@pytest.fixture(params=["memory", "redis"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Edges and backends on each carrier."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        url = server.url
    else:
        url = f"memory://{uuid4().hex}"
    async with site(url) as made:
        yield made


@pytest.fixture
async def inmemory() -> AsyncIterator[Site]:
    async with site(f"memory://{uuid4().hex}") as made:
        yield made


def state(backend: Backend) -> Any:
    app: Any = backend._app
    return app.state


async def come(port: int, path: str) -> tuple[ClientConnection, list[Any]]:
    """A client, and what its endpoint says of its join; what is replayed comes before."""
    client = await connect(at(port, path))
    before = []
    while not (message := str(await client.recv())).startswith("["):
        before.append(message)
    return client, [*json.loads(message), before]


async def test_newcomers_get_the_last_messages_and_all_hear_one_order(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    rooms = backends[0].manager
    for number in range(5):
        await rooms.to("chat-tea").send_text(f"before {number}")
    ann, joined = await come(ports[0], "/chat-tea?name=ann&recent=3")
    assert joined[1:] == [None, 3, joined[3], ["before 2", "before 3", "before 4"]]
    position = joined[3]["chat-tea"]
    bob, _ = await come(ports[1], "/chat-tea?name=bob")
    async with backends[1].manager.listen("chat-tea") as messages:
        for number in range(20):
            await backends[number % 2].manager.to("chat-tea").send_text(f"{number}")
        heard = [await client.recv() for client in (ann, bob) for _ in range(20)]
        assert heard == [str(number) for number in range(20)] * 2
        assert [(await anext(messages)).text for _ in range(20)] == heard[:20]
    cem, joined = await come(ports[1], f"/chat-tea?name=cem&since={position}")
    assert joined[1:] == [True, 20, joined[3], heard[:20]]
    assert [m.text for m in await rooms.recent("chat-tea", 2)] == ["18", "19"]
    await rooms.clear_history("chat-tea")
    await eventually(
        lambda: not both.edges[0].manager.of("/")._here.recovery.logs.recent("chat-tea", 9)
    )
    dan, joined = await come(ports[0], "/chat-tea?name=dan&recent=9")
    assert joined[1:] == [None, 0, joined[3], []]
    for client in (ann, bob, cem, dan):
        await client.close()


async def test_what_an_endpoint_asks_for_again_is_sent_once_when_its_backend_is_replaced(
    both: Site,
) -> None:
    port = await both.edge()
    first = await both.backend(chat_app)
    await first.manager.to("chat-tea").send_text("old")
    position = await first.manager.position("chat-tea")
    await first.manager.to("chat-tea").send_text("new")
    ann, joined = await come(port, "/chat-tea?name=ann&recent=50")
    assert joined[4] == ["old", "new"]
    bob, joined = await come(port, f"/chat-tea?name=bob&since={position}")
    assert joined[1] is True
    assert joined[4] == ["new"]
    await both.stop(first)
    rooms = both.manager()
    rooms.history("chat-*")
    async with rooms:
        await rooms.to("chat-tea").send_text("nobody runs their endpoints")
    await both.backend(chat_app)
    for client, recovered in ((ann, None), (bob, True)):
        assert await client.recv() == "nobody runs their endpoints"
        attempt, *joined = json.loads(await client.recv())
        assert (attempt, *joined[:2]) == (1, recovered, 0)
        assert joined[2]["chat-tea"]
    await ann.send("on")
    for client in (ann, bob):
        assert await client.recv() == "on", "nothing comes again"
        await client.close()


async def test_what_is_lost_for_good_opens_the_endpoint_again_which_is_told(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend(chat_app)
    ann, _ = await come(port, "/kept-tea?recent=50")
    inmemory.edges[0].manager._here.recovery.lost("kept-tea")
    attempt, recovered, *_ = json.loads(await ann.recv())
    assert (attempt, recovered) == (1, False)
    inmemory.edges[0].gap()
    attempt, recovered, *_ = json.loads(await ann.recv())
    assert (attempt, recovered) == (2, False), "it goes on being so for later endpoints"
    await ann.close()


async def test_a_room_that_has_neither_is_asked_in_vain_as_at_a_worker(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend(chat_app)
    async with connect(at(port, "/plain?recent=5")) as client:
        assert (await closed(client))[0] == 1011
    async with connect(at(port, "/chat-tea")) as client:
        assert (await closed(client))[0] == 1011, "nobody knows who it is"


async def test_who_is_present_is_who_the_endpoint_says(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    presence, by_function = state(backends[1]).presence, state(backends[1]).by_function
    ann, _ = await come(ports[0], "/chat-tea?name=ann")
    again, _ = await come(ports[1], "/chat-tea?name=ann")
    bob, _ = await come(ports[1], "/chat-tea?name=bob")
    loud, _ = await come(ports[1], "/who-tea?name=cem")
    assert {one.user for one in (await presence.users("chat-tea")).users} == {"ann", "bob"}
    assert await presence.count("chat-tea") == 2
    assert await presence.is_present("bob", "chat-tea")
    assert await presence.rooms("ann") == {"chat-tea"}
    assert await by_function.rooms("CEM") == {"who-tea"}
    await backends[0].manager.to("chat-tea", "who-tea").sockets_join("who-all")
    assert {one.user for one in (await by_function.users("who-all")).users} == {"ANN", "BOB", "CEM"}
    await bob.send("leave chat-tea")
    await eventually(partial(_has, presence, "chat-tea", "ann"))
    await ann.close()
    await backends[0].manager.to("chat-tea").send_text("still there")
    assert await again.recv() == "still there"
    assert await presence.is_present("ann", "chat-tea")
    for client in (again, bob, loud):
        await client.close()
    await eventually(partial(_has, presence, "chat-tea"))
    await eventually(partial(_has, by_function, "who-all"))


async def _has(presence: Any, room: str, *users: str) -> bool:
    return {one.user for one in (await presence.users(room)).users} == set(users)


async def test_others_cannot_have_a_socket_join_of_which_nobody_knows_who_it_is(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(chat_app)
    nobody, _ = await come(port, "/plain")
    ann, _ = await come(port, "/plain?name=ann")
    with pytest.raises(RequestRefused, match="has nothing by which 'chat-tea' knows"):
        await backend.manager.to("plain").sockets_join("chat-tea")
    assert await _has(state(backend).presence, "chat-tea", "ann")
    await nobody.send("I am bob")
    await nobody.send("hello")
    assert [await client.recv() for client in (nobody, ann)] == ["hello", "hello"]
    await backend.manager.to("plain").sockets_join("chat-tea")
    assert await _has(state(backend).presence, "chat-tea", "ann", "bob")
    for client in (nobody, ann):
        await client.close()


async def test_who_comes_and_goes_is_told_to_handlers_in_backends(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    states = [state(backend) for backend in backends]
    clients = [(await come(ports[0], "/chat-tea?name=ann"))[0] for _ in backends]
    assert all(backend.clients == 1 for backend in backends)
    bob, _ = await come(ports[1], "/chat-tea?name=bob")
    cem, _ = await come(ports[1], "/plain?name=cem")
    await backends[0].manager.to("plain").sockets_join("chat-tea")
    await bob.close()
    expected = [("join", "ann"), ("join", "bob"), ("join", "cem"), ("leave", "bob")]
    await eventually(lambda: all(one.told and one.told[-1][0] == "leave" for one in states))
    states.sort(key=lambda one: len(one.told), reverse=True)
    versions = [version for *_, version in states[0].told]
    assert versions == list(range(versions[0], versions[0] + 4))
    for one, events in zip(states, (expected, expected[1:]), strict=True):
        assert [(kind, user) for kind, _, user, _ in one.told] == events
        assert [version for *_, version in one.told] == versions[-len(events) :]
    await eventually(lambda: sum(len(one.told_once) for one in states) >= 4)
    once = sorted(event for one in states for event in one.told_once)
    assert once == sorted((kind, "chat-tea", user) for kind, user in expected)
    for client in (*clients, cem):
        await client.close()


async def _come(port: int, *users: str) -> list[ClientConnection]:
    return [(await come(port, f"/chat-tea?name={user}"))[0] for user in users]


def _once(backends: list[Backend]) -> list[tuple[str, str]]:
    """What handlers were told that are to be told on one worker of all."""
    told = [event for backend in backends for event in state(backend).told_once]
    return sorted((kind, user) for kind, _, user in told)


async def test_who_is_back_within_the_grace_was_never_gone(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backend = await both.backend(partial(chat_app, grace=0.3))
    ann, bob = await _come(ports[0], "ann", "bob")
    await ann.close()
    (ann,) = await _come(ports[1], "ann")
    await bob.close()
    await eventually(lambda: ("leave", "bob") in _once([backend]))
    expected = [("join", "ann"), ("join", "bob"), ("leave", "bob")]
    assert _once([backend]) == expected
    assert [(kind, user) for kind, _, user, _ in state(backend).told] == expected
    await ann.close()
    await eventually(lambda: ("leave", "ann") in _once([backend]))
    assert state(backend).told[3:] == [], "nobody of its own is there any more"


async def test_a_backend_that_is_killed_makes_nobody_leave(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
    port = await inmemory.edge()
    first = await inmemory.backend(chat_app)
    (ann,) = await _come(port, "ann")
    second = await inmemory.backend(chat_app)
    inmemory.kill(first)
    assert json.loads(await ann.recv())[0] == 1
    assert await _has(state(second).presence, "chat-tea", "ann")
    (bob,) = await _come(port, "bob")
    assert [event[0::2] for event in state(second).told] == [("join", "bob")], "and none of ann"
    assert _once([first, second]) == [("join", "ann"), ("join", "bob")]
    for client in (ann, bob):
        await client.close()
    inmemory.revive(first)


async def test_what_an_edge_makes_known_while_no_backend_is_there_is_told_to_the_next(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend(chat_app)
    (ann,) = await _come(port, "ann")
    await inmemory.stop(first)
    await ann.close()
    await eventually(lambda: not inmemory.edges[0].manager.sids)
    second = await inmemory.backend(chat_app)
    await eventually(lambda: _once([first, second]) == [("join", "ann"), ("leave", "ann")])


def _die(edge: Gateway) -> None:
    """Have an edge tell the carrier no more who is present, as if it had been killed."""
    keeper = edge.manager._runtime.presence.running
    keeper._flushes = CallInTurns(lambda: None)  # nothing is told
    for task in keeper._tasks._tasks:
        task.cancel()


@pytest.mark.parametrize("carrier", ["memory", "redis"])
async def test_the_users_of_an_edge_that_dies_leave_once_and_it_is_told(
    carrier: str, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("redis") if carrier == "redis" else None
    url = f"memory://{uuid4().hex}" if server is None else server.url
    async with site(url, heartbeat=0.1, drain_timeout=0.1) as made:
        ports = [await made.edge(), await made.edge()]
        backends = [await made.backend(chat_app) for _ in range(2)]
        (ann,) = await _come(ports[0], "ann")
        bobs = await _come(ports[1], "bob", "bob")
        _die(made.edges[0])
        await eventually(lambda: ("leave", "ann") in _once(backends), what="it is told")
        assert await _has(state(backends[0]).presence, "chat-tea", "bob")
        assert _once(backends) == [("join", "ann"), ("join", "bob"), ("leave", "ann")]
        told = [event[0::2] for backend in backends for event in state(backend).told]
        assert told.count(("leave", "ann")) == sum(backend.clients > 0 for backend in backends)
        for client in (ann, *bobs):
            await client.close()


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
    assert await _has(state(new).presence, "chat-tea", "ann"), "its rooms know since now"
    bob, joined = await come(port, "/chat-tea?name=bob&recent=9")
    assert joined[4] == ["0", "1", "2"]
    await bob.send("all")
    for client in (*clients, bob):
        assert await client.recv() == "all"
        await client.close()
    await eventually(partial(_has, state(new).presence, "chat-tea"))


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


async def _until(client: ClientConnection, last: str) -> list[str]:
    """What a client hears before something."""
    heard = []
    while (message := str(await client.recv())) != last:
        heard.append(message)
    return heard


async def test_each_backend_tells_its_own_clients_by_local(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    clients = await _come(ports[0], "ann", "bob") + await _come(ports[1], "cem", "dan")
    assert [backend.clients for backend in backends] == [2, 2]
    aside, _ = await come(ports[0], "/kept-tea?name=eve")
    for name, backend in zip("xy", backends, strict=True):
        await backend.manager.local.to("chat-tea").send_text(name)
    await backends[0].manager.to("chat-tea").send_text("end")
    heard = [await _until(client, "end") for client in clients]
    assert sorted(heard) == [["x"]] * 2 + [["y"]] * 2
    sid = min(both.edges[0].manager.rooms["chat-tea"])
    for backend in backends:
        await backend.manager.local.except_(sid, "kept-tea").send_text("all but one")
        await backend.manager.of("/other").local.send_text("nobody is there")
        await backend.manager.local.volatile.to("kept-tea").send_text("volatile")
    await backends[0].manager.to("chat-tea").send_text("end")
    heard = [await _until(client, "end") for client in clients]
    assert sorted(heard) == [[], *[["all but one"]] * 3]
    assert await aside.recv() == "volatile", "its one backend has told it"
    for client in (*clients, aside):
        await client.close()


async def test_handlers_tell_those_who_are_there_who_comes_and_goes(both: Site) -> None:
    def telling(rooms: RoomManager) -> FastAPI:
        app = chat_app(rooms)
        presence: Presence = app.state.presence

        @presence.on("join")
        @presence.on("leave")
        async def tell(event: PresenceEvent) -> None:
            await event.namespace.local.to(event.room).send_text(f"{event.kind} {event.user}")

        return app

    ports = [await both.edge(), await both.edge()]
    for _ in range(2):
        await both.backend(telling)
    clients = await _come(ports[0], "ann", "ann") + await _come(ports[1], "ann", "ann")
    (bob,) = await _come(ports[1], "bob")
    await bob.close()
    for client in clients:
        assert [await client.recv(), await client.recv()] == ["join bob", "leave bob"]
        await client.close()


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


async def test_who_comes_is_told_in_the_backend_that_has_the_client_also_if_others_did_it(
    both: Site,
) -> None:
    port = await both.edge()
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    clients = []
    for user in ("ann", "bob", "cem", "dan"):
        client, _ = await come(port, f"/plain?name={user}")
        clients.append(client)
    assert [backend.clients for backend in backends] == [2, 2]
    own = [
        {c.scope["query_string"][5:].decode() for c in b._connections.values()} for b in backends
    ]
    await backends[0].manager.to("plain").sockets_join("chat-tea")
    for at_backend, users in zip(map(state, backends), own, strict=True):
        await eventually(partial(_was_told, at_backend, users))
        assert {user for _, _, user in at_backend.told_once} == users
        versions = [version for *_, version in at_backend.told]
        assert versions == sorted(set(versions))
    for client in clients:
        await client.close()


def _was_told(at_backend: Any, users: set[str]) -> bool:
    told = {event[2] for event in at_backend.told}
    return told >= users and len(at_backend.told_once) >= len(users)


async def test_a_gap_of_a_backend_is_about_what_it_listens_to_and_opens_its_endpoints_again(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(chat_app)
    rooms, gaps = backend.manager, list[Gap]()
    rooms.on("gap")(gaps.append)
    ann, _ = await come(port, "/plain?name=ann")
    adapter: Any = rooms._runtime.adapter
    rooms._runtime.run.gap(Outage(1.0, 2.0, frozenset(adapter._channels)))
    assert json.loads(await ann.recv())[0] == 1
    assert gaps == []
    async with rooms.listen("news"):
        rooms._runtime.run.gap(Outage(3.0, 4.0, frozenset(adapter._channels)))
        assert json.loads(await ann.recv())[0] == 2
    assert [gap.rooms for gap in gaps] == [("news",)]
    await ann.close()


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


async def test_all_that_is_kept_is_heard_once_and_in_order_whatever_becomes_of_backends_and_carrier(
    redis: RedisServer,
) -> None:
    async with site(redis.url) as made, Redis.from_url(redis.url) as admin:
        ports = [await made.edge(), await made.edge()]
        backends = [await made.backend(chat_app) for _ in range(2)]
        clients = [(await come(port, "/kept-tea?recent=50"))[0] for port in ports * 2]
        rooms = made.manager()
        rooms.history("kept-*")

        async def speak() -> None:
            for number in range(200):
                await rooms.to("kept-tea").send_text(str(number))
                await asyncio.sleep(0.005)

        async with rooms:
            speaking = asyncio.create_task(speak())
            for backend in backends:
                await admin.client_kill_filter(_type="pubsub", skipme=True)
                await made.stop(backend)
                await made.backend(chat_app)
            await speaking
        for client in clients:
            heard = [m for m in await _until(client, "199") if not m.startswith("[")]
            assert heard == [str(number) for number in range(199)]
            await client.close()
