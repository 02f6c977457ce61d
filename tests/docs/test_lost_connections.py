"""What the pages say of endpoints that do not read: lost connections, and a worker that drains."""

from __future__ import annotations

import asyncio
import logging
import urllib.request

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocket
from websockets.sync.client import connect

from fastapi_rooms import RoomManager
from tests.docs.conftest import Serve
from tests.integration.servers import wait_until


def application(rooms: RoomManager, ended: list[str]) -> FastAPI:
    """Its endpoints push: one of them reads, the other waits for something else."""
    app = FastAPI(lifespan=rooms.lifespan)

    @app.websocket("/reads")
    async def reads(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("tea")
            await socket.send_text("you are in")
            await socket.wait_closed()
        ended.append("reads")

    @app.websocket("/sleeps")
    async def sleeps(websocket: WebSocket) -> None:
        try:
            async with rooms.connect(websocket) as socket:
                await socket.join("tea")
                await socket.send_text("you are in")
                await asyncio.Event().wait()
        finally:
            ended.append("sleeps")

    @app.post("/drain")
    async def drain() -> None:
        await rooms.drain()

    return app


def drain(address: str) -> None:
    """As this server, in a thread, would not tell the manager that it stops."""
    request = urllib.request.Request(f"http://{address}/drain", method="POST")
    assert urllib.request.urlopen(request, timeout=10).status == 200


def test_one_whose_connection_is_lost_leaves_though_its_endpoint_does_not_read(
    serve: Serve,
) -> None:
    rooms, ended = RoomManager(), list[str]()
    address = serve(application(rooms, ended))
    for path in ("/reads", "/sleeps"):
        with connect(f"ws://{address}{path}") as client:
            client.recv(timeout=10)
            assert len(rooms.rooms["tea"]) == 1
            client.socket.close()
            wait_until(lambda: not rooms.sids)
            assert not rooms.rooms
    wait_until(lambda: ended == ["reads"])
    drain(address)
    wait_until(lambda: ended == ["reads", "sleeps"])


def test_by_plain_asgi_it_leaves_when_something_reads_or_a_send_fails(serve: Serve) -> None:
    rooms, ended = RoomManager(direct_writes=False), list[str]()
    address = serve(application(rooms, ended))
    with connect(f"ws://{address}/reads") as client:
        client.recv(timeout=10)
    wait_until(lambda: not rooms.sids)
    with connect(f"ws://{address}/sleeps") as client:
        client.recv(timeout=10)
    assert len(rooms.sids) == 1
    rooms.sync.to("tea").send_text("hello")
    wait_until(lambda: not rooms.sids)
    drain(address)
    wait_until(lambda: ended == ["reads", "sleeps"])


@pytest.mark.parametrize("direct_writes", [True, False], ids=["uvicorn", "asgi"])
def test_an_endpoint_that_does_not_read_is_cancelled_quietly_when_the_worker_drains(
    serve: Serve, caplog: pytest.LogCaptureFixture, direct_writes: bool
) -> None:
    rooms, ended = RoomManager(drain_timeout=1, direct_writes=direct_writes), list[str]()
    address = serve(application(rooms, ended))
    with connect(f"ws://{address}/sleeps") as stays, connect(f"ws://{address}/sleeps") as goes:
        for client in (stays, goes):
            client.recv(timeout=10)
        goes.socket.close()
        drain(address)
        wait_until(lambda: ended == ["sleeps", "sleeps"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
