"""A client that is gone is in no room, whether or not its endpoint reads, and keeps no server."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import struct
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import TIMEOUT, http
from tests.integration.raw import Endpoint, RawClient, serving
from tests.integration.servers import (
    Server,
    Start,
    granian,
    gunicorn,
    hypercorn,
    uvicorn,
    wait_until,
)

APP = "tests.integration.lost_app:app"
SERVICE_RESTART = 1012
SOON = 3.0
"""Seconds that a server has for its end: an endpoint's half, and much for a busy machine."""

UVICORN = {
    f"uvicorn {ws} {loop}": uvicorn("--ws", ws, "--loop", loop, app=APP)
    for ws in ("websockets-sansio", "wsproto")
    for loop in ("asyncio", "uvloop")
}
OTHERS = {
    "hypercorn": hypercorn(app=APP),
    "granian": granian(app=APP),
}
KINDS = [
    "never_reads",
    "pushes",
    "waits",
    "listens",
    "in_two_namespaces",
    "cleans_up_slowly",
    "ends_by_its_cancellation",
]

Leave = Callable[[ClientConnection], Any]


async def closes(client: ClientConnection) -> None:
    await client.close()


async def vanishes(client: ClientConnection) -> None:
    client.transport.abort()


async def resets(client: ClientConnection) -> None:
    sock = client.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


WAYS = [closes, vanishes, resets]


async def visit(server: Server, path: str) -> ClientConnection:
    """Come in, and read until the endpoint has come so far."""
    client = await connect_websocket(server.url(path), ping_interval=None, compression=None)
    async with asyncio.timeout(TIMEOUT):
        assert await client.recv() == "accepted"
        while await client.recv() != "in":
            pass
    return client


@asynccontextmanager
async def ends_soon(server: Server) -> AsyncIterator[None]:
    """Have the server end by a signal, in time, and without a word about it."""
    begin = time.monotonic()
    server.send(signal.SIGTERM)
    yield
    assert await asyncio.to_thread(server.wait) in {0, -signal.SIGTERM}
    assert time.monotonic() - begin < SOON
    assert server.complaints == []


async def all_have_left(server: Server, count: int) -> None:
    async def nobody_is_in() -> bool:
        state = await http(server, "/state")
        left = state["sids"] == state["rooms"] == state["count"] == 0
        return bool(left and state["disconnected"] == count)

    await eventually(nobody_is_in, what="nobody is in any map, and all disconnects were told")


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_a_client_that_goes_has_left_though_nobody_reads_and_the_server_ends(
    command: Callable[[int], list[str]], start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    for number, kind in enumerate(KINDS, 1):
        for leave in WAYS:
            await leave(await visit(server, f"/push/{kind}"))
        await all_have_left(server, number * len(WAYS))
    async with ends_soon(server):
        pass


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_a_client_that_goes_before_it_has_come_in_is_not_kept(
    command: Callable[[int], list[str]], start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    for leave in WAYS:
        url = server.url("/push/never_reads?before=0.2")
        client = await connect_websocket(url, ping_interval=None)
        assert await client.recv() == "accepted"
        await leave(client)
    await all_have_left(server, len(WAYS))
    async with ends_soon(server):
        pass


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_a_client_that_goes_while_redis_is_awaited_makes_no_noise(
    command: Callable[[int], list[str]], start: Start, redis: RedisServer
) -> None:
    server = start(command, ROOMS_URL=redis.url)
    server.wait_for_workers()
    redis.freeze()
    try:
        for leave in WAYS:
            client = await connect_websocket(server.url("/push/never_reads"), ping_interval=None)
            assert await client.recv() == "accepted"
            await leave(client)

        async def all_have_ended() -> bool:
            return bool((await http(server, "/running")) == 0)

        await eventually(all_have_ended)
    finally:
        redis.thaw()
    await asyncio.to_thread(server.stop)
    assert "Traceback" not in server.log


@pytest.mark.parametrize("command", UVICORN.values(), ids=UVICORN)
async def test_a_server_ends_with_endpoints_that_do_not_read(
    command: Callable[[int], list[str]], start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    clients = [await visit(server, f"/push/{kind}") for kind in KINDS for _ in range(2)]
    async with ends_soon(server):
        for client in clients:
            assert await close_code(client) == SERVICE_RESTART


async def close_code(client: ClientConnection) -> int | None:
    """The server's, once everything before it is read."""
    async with asyncio.timeout(TIMEOUT):
        with suppress(ConnectionClosed):
            async for _ in client:
                pass
    return client.close_code


@pytest.mark.parametrize("command", OTHERS.values(), ids=OTHERS)
async def test_on_other_servers_a_client_that_goes_has_left_where_something_reads(
    command: Callable[[int], list[str]], start: Start
) -> None:
    server = start(command)
    server.wait_for_workers()
    for leave in WAYS:
        await leave(await visit(server, "/push/waits"))
    await all_have_left(server, len(WAYS))
    assert (await http(server, "/state"))["endpoints"] == 0
    async with ends_soon(server):
        pass


async def test_hundreds_that_do_not_read_end_with_their_server_some_of_them_lost_before(
    start: Start,
) -> None:
    server = start(uvicorn(app=APP))
    server.wait_for_workers()
    clients = [await visit(server, "/push/never_reads") for _ in range(300)]
    for number, client in enumerate(clients[:100]):
        await WAYS[number % len(WAYS)](client)
    begin = time.monotonic()
    server.send(signal.SIGTERM)
    codes = await asyncio.gather(*map(close_code, clients[100:]))
    assert {*codes} == {SERVICE_RESTART}
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    assert time.monotonic() - begin < 300 / 100 + SOON
    assert server.complaints == []


async def test_on_two_workers_of_gunicorn_all_of_it_holds_as_well(
    start: Start, redis: RedisServer
) -> None:
    server = start(gunicorn("-w", "2", app=APP), ROOMS_URL=redis.url)
    server.wait_for_workers(2)
    clients = [await visit(server, "/push/never_reads") for _ in range(12)]
    for number, client in enumerate(clients[:6]):
        await WAYS[number % len(WAYS)](client)
    await eventually(lambda: _count(server, 6), what="six are counted, on two workers")
    async with ends_soon(server):
        for client in clients[6:]:
            assert await close_code(client) == SERVICE_RESTART


async def _count(server: Server, count: int) -> bool:
    return bool((await http(server, "/state"))["count"] == count)


@pytest.mark.parametrize("before", ["connected", "lost"])
async def test_a_change_of_the_source_reloads_though_endpoints_do_not_read(
    before: str, start: Start, tmp_path: Path
) -> None:
    source = tmp_path / "watched.py"
    source.write_text("")
    options = ("--reload", "--reload-dir", str(tmp_path), "--reload-delay", "0.05")
    server = start(uvicorn(*options, app=APP))
    old = frozenset(server.wait_for_workers())
    clients = [await visit(server, f"/push/{kind}") for kind in KINDS]
    if before == "lost":
        for client in clients:
            await resets(client)
    await eventually(lambda: "Started reloader process" in server.log)
    source.write_text("changed = True")
    os.utime(source, (time.time() + 60, time.time() + 60))  # later, however coarse the clock is
    await asyncio.to_thread(server.wait_for_workers, other_than=old)
    for client in clients:
        await client.close()
    assert await asyncio.to_thread(server.stop, signal.SIGINT) in {0, -signal.SIGINT}
    assert [line for line in server.complaints if "detected changes" not in line] == []


# What is left of them.


async def is_lost(rooms: RoomManager, socket: Socket) -> None:
    await asyncio.Event().wait()


async def is_lost_in_two(rooms: RoomManager, socket: Socket) -> None:
    async with rooms.of("/other").connect(socket.websocket):
        await asyncio.Event().wait()


async def is_refused_too_late(rooms: RoomManager, socket: Socket) -> None:
    async with rooms.of("/other").connect(socket.websocket):
        with suppress(WebSocketDisconnect):
            await socket.receive_text()
        raise HTTPException(404)


async def is_answered_too_late(rooms: RoomManager, socket: Socket) -> None:
    with suppress(WebSocketDisconnect):
        await socket.receive_text()
    await socket.send_text("to nobody")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
@pytest.mark.parametrize(
    "endpoint", [is_lost, is_lost_in_two, is_refused_too_late, is_answered_too_late]
)
def test_a_lost_connection_is_freed_when_its_endpoint_has_ended(
    endpoint: Endpoint, ws: str, loop: str
) -> None:
    connections: list[weakref.ref[Any]] = []

    async def seen(rooms: RoomManager, socket: Socket) -> None:
        connections.append(weakref.ref(socket.websocket))
        await endpoint(rooms, socket)

    rooms = RoomManager(drain_timeout=1)
    gc.disable()
    try:
        with serving(seen, rooms, ws=ws, loop=loop) as port:
            for _ in range(2):
                client = RawClient(port)
                wait_until(lambda: bool(rooms.rooms))
                client.close(reset=True)
                wait_until(lambda: not rooms.rooms)
            port.stop()
            wait_until(lambda: len(connections) == 2 and not any(known() for known in connections))
            wait_until(port.stopped)
    finally:
        gc.enable()
