"""Rooms that know who is present, through edges that are told nothing of them."""

from __future__ import annotations

import json
from functools import partial

import pytest

from fastapi_rooms import Gateway, RequestRefused
from fastapi_rooms.presence.turns import CallInTurns
from fastapi_rooms.testing import eventually
from tests.integration.gateway.people import come, come_as, present, state, told_once
from tests.integration.gateway.rooms_app import chat_app
from tests.integration.gateway.site import Site, site


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
    await eventually(partial(present, presence, "chat-tea", "ann"))
    await ann.close()
    await backends[0].manager.to("chat-tea").send_text("still there")
    assert await again.recv() == "still there"
    assert await presence.is_present("ann", "chat-tea")
    for client in (again, bob, loud):
        await client.close()
    await eventually(partial(present, presence, "chat-tea"))
    await eventually(partial(present, by_function, "who-all"))


async def test_others_cannot_have_a_socket_join_of_which_nobody_knows_who_it_is(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(chat_app)
    nobody, _ = await come(port, "/plain")
    ann, _ = await come(port, "/plain?name=ann")
    with pytest.raises(RequestRefused, match="has nothing by which 'chat-tea' knows"):
        await backend.manager.to("plain").sockets_join("chat-tea")
    assert await present(state(backend).presence, "chat-tea", "ann")
    await nobody.send("I am bob")
    await nobody.send("hello")
    assert [await client.recv() for client in (nobody, ann)] == ["hello", "hello"]
    await backend.manager.to("plain").sockets_join("chat-tea")
    assert await present(state(backend).presence, "chat-tea", "ann", "bob")
    for client in (nobody, ann):
        await client.close()


async def test_who_is_back_within_the_grace_was_never_gone(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backend = await both.backend(partial(chat_app, grace=0.3))
    ann, bob = await come_as(ports[0], "ann", "bob")
    await ann.close()
    (ann,) = await come_as(ports[1], "ann")
    await bob.close()
    await eventually(lambda: ("leave", "bob") in told_once([backend]))
    expected = [("join", "ann"), ("join", "bob"), ("leave", "bob")]
    assert told_once([backend]) == expected
    assert [(kind, user) for kind, _, user, _ in state(backend).told] == expected
    await ann.close()
    await eventually(lambda: ("leave", "ann") in told_once([backend]))
    assert state(backend).told[3:] == [], "nobody of its own is there any more"


@pytest.mark.usefixtures("brisk")
async def test_a_backend_that_is_killed_makes_nobody_leave(inmemory: Site) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend(chat_app)
    (ann,) = await come_as(port, "ann")
    second = await inmemory.backend(chat_app)
    inmemory.kill(first)
    assert json.loads(await ann.recv())[0] == 1
    assert await present(state(second).presence, "chat-tea", "ann")
    (bob,) = await come_as(port, "bob")
    assert [event[0::2] for event in state(second).told] == [("join", "bob")], "and none of ann"
    assert told_once([first, second]) == [("join", "ann"), ("join", "bob")]
    for client in (ann, bob):
        await client.close()
    inmemory.revive(first)


def _die(edge: Gateway) -> None:
    """Have an edge tell the carrier no more who is present, as if it had been killed."""
    keeper = edge.manager._runtime.presence.running
    keeper._flushes = CallInTurns(lambda: None)  # nothing is told
    for task in keeper._tasks._tasks:
        task.cancel()


async def test_the_users_of_an_edge_that_dies_leave_once_and_it_is_told(url: str) -> None:
    async with site(url, heartbeat=0.1, drain_timeout=0.1) as made:
        ports = [await made.edge(), await made.edge()]
        backends = [await made.backend(chat_app) for _ in range(2)]
        (ann,) = await come_as(ports[0], "ann")
        bobs = await come_as(ports[1], "bob", "bob")
        _die(made.edges[0])
        await eventually(lambda: ("leave", "ann") in told_once(backends), what="it is told")
        assert await present(state(backends[0]).presence, "chat-tea", "bob")
        assert told_once(backends) == [("join", "ann"), ("join", "bob"), ("leave", "ann")]
        told = [event[0::2] for backend in backends for event in state(backend).told]
        assert told.count(("leave", "ann")) == sum(backend.clients > 0 for backend in backends)
        for client in (ann, *bobs):
            await client.close()
