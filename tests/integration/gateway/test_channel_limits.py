"""What a client may do on its channels, and what becomes of one that does more or does not read."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms.testing import eventually
from tests.integration.gateway.apps import reader_app
from tests.integration.gateway.channels import ROUTES, ChannelClient, refused, two_names
from tests.integration.gateway.site import Site, at


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
