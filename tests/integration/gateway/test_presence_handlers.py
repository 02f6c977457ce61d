"""Who comes and goes at edges, as handlers in backends are told."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import FastAPI

from fastapi_rooms import Presence, PresenceEvent, RoomManager
from fastapi_rooms.testing import eventually
from tests.integration.gateway.people import come, come_as, state, told_once, until
from tests.integration.gateway.rooms_app import chat_app
from tests.integration.gateway.site import Site


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


async def test_what_an_edge_makes_known_while_no_backend_is_there_is_told_to_the_next(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend(chat_app)
    (ann,) = await come_as(port, "ann")
    await inmemory.stop(first)
    await ann.close()
    await eventually(lambda: not inmemory.edges[0].manager.sids)
    second = await inmemory.backend(chat_app)
    await eventually(lambda: told_once([first, second]) == [("join", "ann"), ("leave", "ann")])


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
    clients = await come_as(ports[0], "ann", "ann") + await come_as(ports[1], "ann", "ann")
    (bob,) = await come_as(ports[1], "bob")
    await bob.close()
    for client in clients:
        assert [await client.recv(), await client.recv()] == ["join bob", "leave bob"]
        await client.close()


async def test_each_backend_tells_its_own_clients_by_local(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    clients = await come_as(ports[0], "ann", "bob") + await come_as(ports[1], "cem", "dan")
    assert [backend.clients for backend in backends] == [2, 2]
    aside, _ = await come(ports[0], "/kept-tea?name=eve")
    for name, backend in zip("xy", backends, strict=True):
        await backend.manager.local.to("chat-tea").send_text(name)
    await backends[0].manager.to("chat-tea").send_text("end")
    heard = [await until(client, "end") for client in clients]
    assert sorted(heard) == [["x"]] * 2 + [["y"]] * 2
    sid = min(both.edges[0].manager.rooms["chat-tea"])
    for backend in backends:
        await backend.manager.local.except_(sid, "kept-tea").send_text("all but one")
        await backend.manager.of("/other").local.send_text("nobody is there")
        await backend.manager.local.volatile.to("kept-tea").send_text("volatile")
    await backends[0].manager.to("chat-tea").send_text("end")
    heard = [await until(client, "end") for client in clients]
    assert sorted(heard) == [[], *[["all but one"]] * 3]
    assert await aside.recv() == "volatile", "its one backend has told it"
    for client in (*clients, aside):
        await client.close()
