"""Whose fault an error is, as the client at the other end of a real server is told it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fastapi_rooms.testing import eventually
from tests.integration.clients import http
from tests.integration.servers import Server, Start, granian, hypercorn, starter, uvicorn
from tests.integration.test_lost_connections import OTHERS, UVICORN, resets

SERVERS = UVICORN | OTHERS
UNANSWERED = "ASGI callable returned without completing handshake."
"""What one of uvicorn's implementations logs of every handshake that is answered with a status."""

Command = Callable[[int], list[str]]


@pytest.fixture(scope="module", params=[*SERVERS.values()], ids=[*SERVERS])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that has nothing to complain of when the tests are over."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        server = start(request.param)
        server.wait_for_workers()
        yield server
        server.stop()
        assert [line for line in server.complaints if UNANSWERED not in line] == []


async def test_a_status_closes_with_four_thousand_more_and_its_reason(server: Server) -> None:
    for status in (401, 404, 503):
        async with connect_websocket(server.url(f"/status/{status}")) as client:
            await client.send("go")
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
                4000 + status,
                "as you wish",
            )
    async with connect_websocket(server.url("/status/404")) as client:
        await client.send("go")
        await resets(client)


async def test_a_sid_in_use_is_said_before_the_handshake_where_the_server_can(
    server: Server,
) -> None:
    async with connect_websocket(server.url("/sid/ann")) as ann:
        assert await ann.recv() == "in"
        with pytest.raises(InvalidStatus) as refused:
            await connect_websocket(server.url("/sid/ann"))
        assert refused.value.response.status_code == 409
        await ann.send("still here")
    async with connect_websocket(server.url("/sid/ann")) as third:
        assert await third.recv() == "in"


@pytest.mark.parametrize("command", [uvicorn, hypercorn, granian])
async def test_a_sid_in_use_closes_with_a_code_where_the_server_cannot_say_it_before(
    command: Callable[..., Command], start: Start
) -> None:
    server = start(command(app="tests.integration.lost_app:without_extensions"))
    server.wait_for_workers()
    async with connect_websocket(server.url("/sid/ann")) as ann:
        assert await ann.recv() == "in"
        async with connect_websocket(server.url("/sid/ann")) as second:
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4409
    assert "'ann'" in closed.value.rcvd.reason
    await asyncio.to_thread(server.stop)
    assert server.complaints == []


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_a_page_that_is_reloaded_after_its_connection_was_lost_comes_in_at_once(
    command: Command, start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    for _ in range(3):
        client = await connect_websocket(server.url("/sid/ann"))
        assert await client.recv() == "in"
        await resets(client)
        await eventually(lambda: _nobody(server), what="nobody is in")
    await asyncio.to_thread(server.stop, signal.SIGTERM)
    assert server.complaints == []


async def _nobody(server: Server) -> bool:
    return bool((await http(server, "/state"))["sids"] == 0)


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_somebody_elses_end_is_an_error_of_the_endpoint_that_did_not_expect_it(
    command: Command, start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    async with connect_websocket(server.url("/relay/ann")) as bob:
        async with connect_websocket(server.url("/sid/ann")) as ann:
            assert await ann.recv() == "in"
            await bob.send("hello")
            assert await ann.recv() == "hello"
        await eventually(lambda: _nobody_but_bob(server))
        await bob.send("are you there?")
        with pytest.raises(ConnectionClosed):
            await bob.recv()
    await asyncio.to_thread(server.stop)
    assert "WebSocketDisconnect" in server.log, (
        "bob's endpoint has failed, and the log says of what"
    )


async def _nobody_but_bob(server: Server) -> bool:
    return bool((await http(server, "/state"))["sids"] == 1)
