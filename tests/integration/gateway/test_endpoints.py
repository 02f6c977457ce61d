"""Native endpoints behind edges, unchanged: edges and backends in one process, clients real."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from fastapi_rooms import Gateway
from fastapi_rooms.testing import eventually
from tests.integration.gateway.apps import reader_app
from tests.integration.gateway.site import Site, at, closed


async def test_an_endpoint_sees_the_request_of_the_client_and_answers_it(both: Site) -> None:
    port = await both.edge()
    backend = await both.backend()
    headers = {"x-agent": "test", "cookie": "cookie=sweet"}
    async with connect(
        at(port, "/echo/Ann%20Lee?q=a%26b"),
        additional_headers=headers,
        subprotocols=[Subprotocol("a"), Subprotocol("b")],
    ) as client:
        assert client.subprotocol == "b"
        assert client.response is not None
        assert client.response.headers["x-answer"] == "yes"
        expected = ["Ann Lee", "a&b", "test", "sweet", "open", "127.0.0.1"]
        assert json.loads(await client.recv()) == expected
        await client.send(b"\x00\xff")
        assert await client.recv() == b"\x00\xff"
        assert await closed(client) == (4321, "enough")
    app: Any = backend._app
    await eventually(lambda: app.state.ended == ["resource"])


async def test_a_refusal_before_accept_is_an_http_answer(inmemory: Site) -> None:
    port = await inmemory.edge(open_timeout=2.0)
    with pytest.raises(InvalidStatus) as away:
        await connect(at(port, "/code"))
    assert away.value.response.status_code == 503
    await inmemory.backend()
    for path, status in [("/refuse/418", 418), ("/nothing", 403), ("/a/../code", 400)]:
        with pytest.raises(InvalidStatus) as refused:
            await connect(at(port, path))
        assert refused.value.response.status_code == status


async def test_an_endpoint_that_fails_closes_with_1011(
    inmemory: Site, caplog: pytest.LogCaptureFixture
) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    async with connect(at(port, "/broken")) as client:
        assert (await closed(client))[0] == 1011
    assert "broken on purpose" in caplog.text


async def test_an_endpoint_hears_the_code_of_its_client(both: Site) -> None:
    port = await both.edge()
    backend = await both.backend()
    client = await connect(at(port, "/code"))
    await client.close(4002)
    app: Any = backend._app
    await eventually(lambda: app.state.ended == [4002])
    await eventually(lambda: backend.clients == 0)


async def test_a_message_over_the_limit_of_the_edge_s_server_closes_with_1009(
    inmemory: Site,
) -> None:
    edge = Gateway(inmemory.manager(), routes={"/": "app"})
    inmemory.edges.append(edge)
    port = await inmemory.serve(edge, ws_max_size=1000)
    backend = await inmemory.backend()
    async with connect(at(port, "/code"), compression=None) as client:
        await client.send("x" * 1001)
        assert (await closed(client))[0] == 1009
    app: Any = backend._app
    await eventually(lambda: app.state.ended)
    assert app.state.ended == [1009]


async def test_data_that_no_edge_can_keep_is_an_error_in_the_endpoint_alone(inmemory: Site) -> None:
    port = await inmemory.edge()
    first = await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    await client.send("keep 1200000")
    assert "as JSON, of which it takes 1,048,576" in str(await client.recv())
    await client.send("keep 500000")
    assert await client.recv() == "kept"
    await inmemory.backend()
    await inmemory.stop(first)
    assert await client.recv() == "hello 1"
    await client.send("state")
    assert len(json.loads(await client.recv())[1]["kept"]) == 500_000
    await client.close()


async def test_a_client_that_does_not_read_stops_its_endpoint_and_gets_all_later(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(reader_app)
    app: Any = backend._app
    async with connect(at(port, "/flood"), compression=None, max_queue=1) as client:
        first = await client.recv()
        assert isinstance(first, bytes)
        for number in range(1, 500):
            message = await client.recv()
            assert isinstance(message, bytes)
            assert message[:4] == number.to_bytes(4)
            ahead = app.state.sent - number
            assert ahead < 450
        assert (await closed(client))[0] == 1000


async def test_an_endpoint_that_does_not_read_stops_its_client_and_gets_all_later(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(reader_app)
    app: Any = backend._app
    async with connect(at(port, "/slow"), compression=None) as client:

        async def send() -> None:
            for number in range(500):
                await client.send(number.to_bytes(4) + bytes(20_000))

        sending = asyncio.create_task(send())
        await eventually(lambda: backend.clients == 1)
        (connection,) = backend._connections.values()
        await eventually(lambda: len(connection._incoming) > 10)
        assert connection._incoming.size < 300 * 1024
        app.state.go.set()
        await sending
        assert (await closed(client))[0] == 4000
