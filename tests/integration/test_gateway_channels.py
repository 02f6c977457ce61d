"""Several endpoints over one connection of a client, at an edge with backends of several names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi import FastAPI, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.channels import ChannelClient
from tests.integration.gateway_app import reader_app
from tests.integration.test_gateway import Site, at, site

ROUTES = {"/chat": "chat", "/": "else"}


@pytest.fixture
async def inmemory() -> AsyncIterator[Site]:
    async with site(f"memory://{uuid4().hex}") as made:
        yield made


async def two_names(made: Site, **options: Any) -> int:
    """Start an edge and a backend of each name."""
    port = await made.edge(routes=ROUTES, **options)
    await made.backend(name="chat")
    await made.backend(name="else")
    return port


async def refused(client: ChannelClient) -> list[Any]:
    """How the whole connection is closed."""
    await client.connection.wait_closed()
    return [client.connection.close_code, client.connection.close_reason]


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


async def test_a_connection_without_a_channel_is_closed_after_a_while(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.servers.mux.connection.IDLE_TIMEOUT", 0.05)
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea")
        assert await client.hear(1) == "hello 0"
        await client.control(close=1)
        assert "closed" in await client.hear(1)
        assert await refused(client) == [1000, "no channel"]


async def test_a_backend_that_is_killed_is_replaced_under_its_channels_and_no_other_is_told(
    inmemory: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
    port = await two_names(inmemory)
    chat = inmemory.backends[0]
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea")
        await client.open(2, "/code")
        assert await client.hear(1) == "hello 0"
        await inmemory.backend(name="chat")
        inmemory.kill(chat)
        assert await client.hear(1) == {"reopened": 1}
        assert await client.hear(1) == "hello 1"
        await client.control(close=2)
        assert "closed" in await client.hear(2)
    inmemory.revive(chat)


@pytest.mark.parametrize("carrier", ["memory", "redis"])
async def test_endpoints_of_several_backends_are_reached_over_one_connection(
    request: pytest.FixtureRequest, carrier: str
) -> None:
    url = f"memory://{uuid4().hex}"
    if carrier == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        url = server.url
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


async def test_a_channel_is_refused_alone_and_with_a_status(inmemory: Site) -> None:
    port = await inmemory.edge(routes=ROUTES | {"/none": "none"}, open_timeout=0.2)
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
    for path, offered in [("/", ["other"]), ("/other", ["rooms.mux.v1"])]:
        with pytest.raises(InvalidStatus) as answer:
            await connect(at(port, path), subprotocols=offered)  # type: ignore[arg-type]  # Subprotocol is a str
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


@pytest.mark.parametrize(
    "said",
    [
        "x",
        "0:{}",
        '0:{"open":1}',
        "0:" + " " * 20_000,
        b"",
        b"\x80",
        '0:{"open":1,"path":"/chat/a"}',
    ],
)
async def test_what_breaks_the_rules_closes_the_connection_and_leaves_nothing(
    inmemory: Site, said: str | bytes
) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea")
        assert await client.hear(1) == "hello 0"
        await client.connection.send(said)
        code, reason = await refused(client)
        assert code == 1002
        assert reason
    await eventually(lambda: not inmemory.edges[0].manager.sids)
    await eventually(lambda: inmemory.backends[0].clients == 0)


async def test_what_a_client_does_wrong_on_one_channel_closes_that_one(inmemory: Site) -> None:
    port = await two_names(inmemory)
    slow = await inmemory.backend(reader_app, name="slow")
    inmemory.edges[0]._routes = type(inmemory.edges[0]._routes)(ROUTES | {"/slow": "slow"})
    async with ChannelClient(at(port, "/")) as client:
        await client.open(9, "/chat/tea")
        assert await client.hear(9) == "hello 0"
        await client.control(credit=9, bytes=10**9)
        assert (await client.hear(9))["code"] == 1008
        await client.open(1, "/slow")
        chunk = bytes(20_000)
        for _ in range(40):  # more than both windows
            await client.say(1, chunk)
        closed = await client.hear(1)
        while "credit" in closed:
            closed = await client.hear(1)
        assert closed == {"closed": 1, "code": 1008, "reason": "sent beyond its credit"}
        await client.say(1, "late")  # for nobody, and no harm
        await client.control(credit=1, bytes=1)
        await client.control(close=1)
        await client.control(open=2, path="/none")
        await client.say(2, "early")
        assert (await client.hear(2))["code"] == 1008
        await client.open(3, "/chat/tea")
        assert await client.hear(3) == "hello 0"
    app: Any = slow._app
    app.state.go.set()


async def test_a_channel_that_is_not_read_stalls_alone_and_gets_all_later(inmemory: Site) -> None:
    port = await inmemory.edge(routes={"/flood": "reader", "/": "chat"})
    reader = await inmemory.backend(reader_app, name="reader")
    await inmemory.backend(name="chat")
    app: Any = reader._app
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/flood", window=50_000)
        await client.open(2, "/chat/tea")
        assert await client.hear(2) == "hello 0"
        first = await client.hear(1, credit=False)
        assert len(first) == 20_004
        for number in range(20):  # meanwhile the other flows
            await client.say(2, str(number))
            assert await client.hear(2) == str(number)
        # What is under way: the window of the client, and that of the backend.
        assert app.state.sent < 30
        await client.control(credit=1, bytes=20_068)
        for number in range(1, 500):
            assert (await client.hear(1))[:4] == number.to_bytes(4)
        assert (await client.hear(1))["code"] == 1000


async def test_a_channel_that_is_not_read_is_closed_by_the_outbox_policy(inmemory: Site) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea", window=1000)
        await client.open(2, "/chat/tea")
        await client.hear(2)
        rooms = inmemory.backends[0].manager
        for _ in range(30):
            await rooms.to("tea").send_bytes(bytes(100_000))
            assert len(await client.hear(2)) == 100_000
        assert await client.hear(1, credit=False) == "hello 0"
        assert await client.hear(1, credit=False) == bytes(100_000)
        assert (await client.hear(1, credit=False))["code"] == 1013
        await client.say(2, "on")
        assert await client.hear(2) == "on"


async def test_only_so_many_channels_may_be_open_or_opening(inmemory: Site) -> None:
    port = await inmemory.edge(routes=ROUTES, max_channels=3, open_timeout=60)
    await inmemory.backend(name="chat")
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea")
        for number in (2, 3):
            await client.control(open=number, path="/nobody")
        assert await client.open(4, "/chat/tea") == {"denied": 4, "status": 429}
        await client.control(close=2)
        assert "closed" in await client.hear(2)

        async def is_free() -> bool:
            return "opened" in await client.open(4, "/chat/tea")

        await eventually(is_free)


async def test_a_backend_that_stops_is_replaced_under_its_channels_and_that_is_told(
    inmemory: Site,
) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        await client.open(1, "/chat/tea?name=ann")
        await client.open(2, "/code")
        assert await client.hear(1) == "hello 0"
        await client.say(1, "state")
        sid, data, _ = json.loads(await client.hear(1))
        await inmemory.backend(name="chat")
        await inmemory.stop(inmemory.backends[0])
        assert await client.hear(1) == {"reopened": 1}
        assert await client.hear(1) == "hello 1"
        await client.say(1, "state")
        assert json.loads(await client.hear(1)) == [sid, data, 1]
        await client.control(close=2)
        assert "closed" in await client.hear(2)  # and nothing was said about that one


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


async def test_an_edge_that_ends_closes_the_connection_once(inmemory: Site) -> None:
    port = await two_names(inmemory)
    async with ChannelClient(at(port, "/")) as client:
        for number in (1, 2):
            await client.open(number, "/chat/tea")
            await client.hear(number)
        edge = inmemory.edges[0]
        await edge.manager.drain()
        assert [await client.hear(n) for n in (1, 2)] == [{"over": [1012, ""]}] * 2
        await eventually(lambda: not edge.manager.sids)
        await eventually(lambda: inmemory.backends[0].clients == 0)


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


async def test_a_server_that_cancels_at_any_await_leaves_nothing_behind(inmemory: Site) -> None:
    await two_names(inmemory)
    edge = inmemory.edges[0]
    said = [
        '0:{"open":1,"path":"/chat/tea"}',
        '0:{"open":2,"path":"/chat/tea"}',
        *("1:hi", '0:{"close":2}', "1:ho"),
    ]
    for steps in range(1, 60, 3):
        await _cancelled_after(edge, said, steps)
        await eventually(lambda: not edge.manager.sids)
        await eventually(lambda: edge.clients == 0)
    await eventually(lambda: inmemory.backends[0].clients == 0)


async def _cancelled_after(edge: Any, said: list[str], steps: int) -> None:
    """Serve a client that says this, and cancel after so many turns of the loop."""
    messages: list[Any] = [{"type": "websocket.connect"}]
    messages += [{"type": "websocket.receive", "text": text} for text in said]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return messages.pop(0)

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [],
        "subprotocols": ["rooms.mux.v1"],
        "extensions": {"websocket.http.response": {}},
    }
    serving = asyncio.create_task(edge(scope, receive, send))
    for _ in range(steps):
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait((serving,))
