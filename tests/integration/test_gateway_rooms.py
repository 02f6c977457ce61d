"""Rooms that remember and know who is present, through edges that are told nothing of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import Backend, RequestRefused, RoomManager
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
    rooms = RoomManager(both.url)
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
    assert (attempt, recovered) == (2, None), "it was told"
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
