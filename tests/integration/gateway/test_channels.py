"""Several endpoints over one connection of a client, at an edge with backends of several names."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import eventually
from tests.integration.gateway.channels import ROUTES, ChannelClient, two_names
from tests.integration.gateway.site import Site, at, site


async def test_endpoints_of_several_backends_are_reached_over_one_connection(url: str) -> None:
    headers = {"x-agent": "test", "cookie": "cookie=sweet"}
    async with site(url) as made:
        port = await two_names(made)
        async with ChannelClient(at(port, "/"), additional_headers=headers) as client:
            assert await client.open(1, "/chat/tea?name=ann") == {"opened": 1, "window": 65536}
            assert await client.open(300, "/chat/tea?name=bob") == {"opened": 300, "window": 65536}
            echo = "/echo/Ann%20Lee?q=a%26b"
            assert await client.open(2, echo, protocols=["a", "b"]) == {
                "opened": 2,
                "window": 65536,
                "protocol": "b",
            }
            seen = ["Ann Lee", "a&b", "test", "sweet", "open", "127.0.0.1"]
            assert json.loads(await client.hear(2)) == seen
            assert await client.hear(1) == await client.hear(300) == "hello 0"
            await client.say(1, "who")
            assert json.loads(await client.hear(1)) == ["ann", "bob"]
            await client.say(300, "hi: 1:")
            assert await client.hear(1) == await client.hear(300) == "hi: 1:"
            await client.say(2, b"\x00\xff")
            assert await client.hear(2) == b"\x00\xff"
            assert await client.hear(2) == {"closed": 2, "code": 4321, "reason": "enough"}
            await made.backends[0].manager.to("tea").send_bytes(b"to all")
            assert await client.hear(1) == await client.hear(300) == b"to all"
            sids = made.edges[0].manager.rooms["tea"]
            assert len(sids) == 2
        await eventually(lambda: not made.edges[0].manager.sids)
        await eventually(lambda: [backend.clients for backend in made.backends] == [0, 0])


async def test_a_server_that_is_written_to_by_asgi_alone_has_channels_too() -> None:
    async with site(f"memory://{uuid4().hex}", direct_writes=False) as made:
        port = await two_names(made)
        rooms = made.edges[0].manager
        async with ChannelClient(at(port, "/")) as client:
            for number in (1, 2):
                assert "opened" in await client.open(number, "/chat/tea")
                assert await client.hear(number) == "hello 0"
            for text in ("x" * 20_000, "y"):
                await client.say(1, text)
                assert [await client.hear(1), await client.hear(2)] == [text, text]
            await rooms.drain()
            assert await client.hear(1) == {"over": [1012, "service restart"]}
        await eventually(lambda: not rooms.sids)


async def test_a_channel_is_refused_alone_and_with_a_status(inmemory: Site) -> None:
    port = await inmemory.edge(routes=ROUTES | {"/none": "none"}, open_timeout=2.0)
    await inmemory.backend(name="chat")
    await inmemory.backend(name="else")
    async with ChannelClient(at(port, "/")) as client:
        for path, status in [
            ("/none/x", 503),
            ("/refuse/418", 418),
            ("/nothing", 403),
            ("/a/../code", 400),
            ("nothing", 400),
            ("/" * 9000, 414),
        ]:
            assert await client.open(1, path) == {"denied": 1, "status": status}
        assert "opened" in await client.open(1, "/chat/tea")
        assert await client.hear(1) == "hello 0"


async def test_a_client_without_a_route_to_it_has_status_404(inmemory: Site) -> None:
    port = await inmemory.edge(routes={"/chat": "chat"})
    async with ChannelClient(at(port, "/")) as client:
        assert await client.open(1, "/other") == {"denied": 1, "status": 404}
        nested = await client.open(1, "/", protocols=["rooms.mux.v1"])
        assert nested == {"denied": 1, "status": 404}
    for path, offered in [("/", "other"), ("/other", "rooms.mux.v1")]:
        with pytest.raises(InvalidStatus) as answer:
            await connect(at(port, path), subprotocols=[Subprotocol(offered)])
        assert answer.value.response.status_code == 404


async def test_codes_and_reasons_travel_both_ways(inmemory: Site) -> None:
    port = await two_names(inmemory)
    (_, other) = inmemory.backends
    app: Any = other._app
    async with ChannelClient(at(port, "/")) as client:
        assert "opened" in await client.open(1, "/code")
        await client.control(close=1, code=4002, reason="bye")
        assert await client.hear(1) == {"closed": 1, "code": 4002, "reason": "bye"}
        await eventually(lambda: app.state.ended == [4002])
        assert "opened" in await client.open(1, "/chat/secret")  # the number is free again
        closed = await client.hear(1)
        assert (closed["closed"], closed["code"]) == (1, 1008)
        assert "opened" in await client.open(2, "/code")
        await client.connection.close(4003, "all")
        await eventually(lambda: app.state.ended == [4002, 4003])


async def test_who_disconnects_a_socket_closes_its_channel_alone(inmemory: Site) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        for number, room in ((1, "tea"), (2, "milk")):
            await client.open(number, f"/chat/{room}")
            await client.hear(number)
        await inmemory.backends[0].manager.to("tea").disconnect_sockets(4000, "over")
        assert await client.hear(1) == {"closed": 1, "code": 4000, "reason": "over"}
        await client.say(2, "on")
        assert await client.hear(2) == "on"


async def test_a_channel_is_spoken_to_in_the_framing_if_it_asks_for_that(inmemory: Site) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        for number in (1, 2):
            assert "opened" in await client.open(number, "/chat/tea?fastapi_rooms=1")
            hello = await client.hear(number)
            assert hello.startswith("\0h")
            assert json.loads(hello[2:])["answers"] is True
            await client.say(number, "\0r{}")
            assert await client.hear(number) == "hello 0"
        await client.say(1, "\0b")
        assert await client.hear(1) == "\0b"
        await client.say(1, "hi")
        assert [await client.hear(1), await client.hear(2)] == ["hi", "hi"]


async def test_an_application_that_mounts_the_edge_has_its_channels_below_it(
    inmemory: Site,
) -> None:
    await inmemory.edge(routes={"/x": "x"})
    gateway = inmemory.edges[0]
    seen: list[str] = []

    def make(rooms: RoomManager) -> FastAPI:
        app = FastAPI()

        @app.websocket("/x/{name}")
        async def endpoint(websocket: WebSocket, name: str) -> None:
            seen.append(name)
            await websocket.accept()

        return app

    await inmemory.backend(make, name="x")
    outer = FastAPI()
    outer.mount("/live", gateway)
    port = await inmemory.serve(outer)
    async with ChannelClient(at(port, "/live/")) as client:
        assert await client.open(1, "/y") == {"denied": 1, "status": 404}
        assert "opened" in await client.open(1, "/x/ann")
        assert seen == ["ann"]
