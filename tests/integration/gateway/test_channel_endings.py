"""Channels whose backend stops or is killed, and whose edge or server ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fastapi_rooms.testing import eventually
from tests.integration.gateway.channels import ChannelClient, two_names
from tests.integration.gateway.site import Site, at


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


@pytest.mark.usefixtures("brisk")
async def test_a_backend_that_is_killed_is_replaced_under_its_channels_and_no_other_is_told(
    inmemory: Site,
) -> None:
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
