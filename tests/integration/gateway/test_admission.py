"""What an edge refuses before a backend hears of it, and what it tells backends of a handshake."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from fastapi_rooms import AllowedOrigins, Gateway, RoomManager
from fastapi_rooms.testing import eventually
from tests.integration.gateway.channels import ChannelClient
from tests.integration.gateway.site import Site, at, closed


def telling_app(rooms: RoomManager) -> FastAPI:
    """Tells each client of its headers, and counts the endpoints."""
    app = FastAPI()
    app.state.opened = 0
    app.state.codes = []

    @app.websocket("/headers")
    async def headers(websocket: WebSocket) -> None:
        app.state.opened += 1
        await websocket.accept(subprotocol="b" if websocket.scope["subprotocols"] else None)
        await websocket.send_json(dict(websocket.headers))
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send_text(str(len(message["text"])))
        app.state.codes.append(message["code"])

    return app


async def status(port: int, path: str = "/headers", **options: Any) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connect(at(port, path), **options)
    return refused.value.response.status_code


async def test_a_page_of_another_site_is_refused_before_a_backend_hears_of_it(
    inmemory: Site,
) -> None:
    port = await inmemory.edge(origins=AllowedOrigins("https://chat.example.com"))
    backend = await inmemory.backend(telling_app)
    assert await status(port, origin="https://evil.example.com") == 403
    app: Any = backend._app
    assert app.state.opened == 0
    client = await connect(at(port, "/headers"), origin=Origin("https://chat.example.com"))
    assert '"origin":"https://chat.example.com"' in str(await client.recv())
    await client.close()


def refusing_app(rooms: RoomManager) -> FastAPI:
    """Refuses everybody, by each way there is."""
    app = FastAPI()

    @app.websocket("/app/closes")
    async def closes(websocket: WebSocket) -> None:
        await websocket.close(4001)

    @app.websocket("/app/raises")
    async def raises(websocket: WebSocket) -> None:
        raise HTTPException(418)

    return app


async def test_who_is_refused_is_no_error_in_the_servers_log(
    inmemory: Site, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(inmemory.manager(), routes={"/app": "app"})
    port = await inmemory.serve(gateway, log_config=None)
    inmemory.edges.append(gateway)
    await inmemory.backend(refusing_app)
    paths = {"/app/closes": 403, "/app/raises": 418, "/app/none": 403, "/none": 404}
    assert {path: await status(port, path) for path in paths} == paths
    await eventually(lambda: gateway.clients == 0)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_only_named_headers_reach_a_backend_and_what_a_handshake_needs(
    inmemory: Site,
) -> None:
    port = await inmemory.edge(headers=["Cookie"])
    await inmemory.backend(telling_app)
    async with connect(
        at(port, "/headers"),
        additional_headers={"COOKIE": "session=s3cret", "authorization": "secret"},
        subprotocols=[Subprotocol("a"), Subprotocol("b")],
        origin=Origin("http://localhost"),
    ) as client:
        assert client.subprotocol == "b"
        text = str(await client.recv())
        assert '"cookie":"session=s3cret"' in text
        assert all(name in text for name in ('"host"', '"origin"', '"sec-websocket-protocol"'))
        assert "authorization" not in text
        assert "user-agent" not in text


async def test_an_edge_that_is_full_refuses_with_503_until_a_client_has_gone(
    inmemory: Site,
) -> None:
    port = await inmemory.edge(max_clients=1)
    await inmemory.backend(telling_app)
    client = await connect(at(port, "/headers"))
    assert await status(port) == 503
    await client.close()
    await eventually(lambda: inmemory.edges[0].clients == 0)
    async with connect(at(port, "/headers")):
        assert inmemory.edges[0].clients == 1


async def test_a_message_that_is_too_long_closes_with_1009_and_the_endpoint_hears_that(
    inmemory: Site,
) -> None:
    port = await inmemory.edge(max_message_bytes=4)
    backend = await inmemory.backend(telling_app)
    client = await connect(at(port, "/headers"))
    await client.recv()
    await client.send("four")
    assert await client.recv() == "4"
    await client.send("ééé")  # six bytes
    assert await closed(client) == (1009, "message too big")
    app: Any = backend._app
    await eventually(lambda: app.state.codes == [1009])


async def test_a_handshake_that_is_too_long_for_a_frame_is_refused_with_431(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    await inmemory.backend(telling_app)
    headers = {f"x-{number}": "x" * 8_000 for number in range(9)}
    assert await status(port, additional_headers=headers) == 431


async def test_an_edge_that_drains_refuses_with_503_at_once(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend(telling_app)
    await inmemory.edges[0].manager.drain()
    async with asyncio.timeout(5):  # and not after `open_timeout`
        assert await status(port) == 503


async def test_the_limits_hold_for_each_endpoint_of_a_connection_with_several(
    inmemory: Site,
) -> None:
    port = await inmemory.edge(max_clients=3, max_message_bytes=4, headers=[])
    await inmemory.backend(telling_app)
    secret = {"authorization": "secret"}
    async with ChannelClient(at(port, "/"), additional_headers=secret) as client:
        for number in (1, 2):
            assert "opened" in await client.open(number, "/headers")
            assert "authorization" not in str(await client.hear(number))
        assert await client.open(3, "/headers") == {"denied": 3, "status": 503}
        assert await status(port) == 503
        assert inmemory.edges[0].clients == 2
        await client.say(1, "fives")
        assert await client.hear(1) == {"closed": 1, "code": 1009, "reason": "message too big"}
        await client.say(2, "four")
        assert await client.hear(2) == "4"
