"""The example application for tests: two people in front of it, and programs beside them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPMethod
from typing import Any, NamedTuple

import pytest
from playwright.async_api import BrowserContext
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import RedisServer
from tests.integration.browser import Tab
from tests.integration.clients import TIMEOUT
from tests.integration.servers import Server, Start, gunicorn, uvicorn

EXAMPLE = "example_app.main:app"
TOKEN = "open sesame"
COMMANDS = {
    "uvicorn": uvicorn("--workers", "2", app=EXAMPLE),
    "gunicorn --preload": gunicorn("-w", "2", "--preload", app=EXAMPLE),
}
Servers = Callable[[str], Server]

on_each = partial(pytest.mark.parametrize, argvalues=COMMANDS, indirect=True)


class Scene(NamedTuple):
    """Ann and Bob, each in a tab of their own, on two different workers of a server."""

    server: Server
    ann: Tab
    bob: Tab


@asynccontextmanager
async def ann_and_bob(server: Server, window: BrowserContext) -> AsyncIterator[Scene]:
    ann = await Tab.open(window, server.url("/", "http"), "Ann")
    bob = await Tab.open(window, server.url("/", "http"), "Bob")
    await bob.reconnect_until_not_on(await ann.worker())
    assert await ann.worker() != await bob.worker()
    yield Scene(server, ann, bob)
    assert ann.errors + bob.errors == []


def started(start: Start, kind: str, redis: RedisServer) -> Server:
    server = start(COMMANDS[kind], ROOMS_URL=redis.url, ADMIN_TOKEN=TOKEN)
    server.wait_for_workers(2)
    return server


async def forget(redis: RedisServer) -> None:
    """Have the rooms forget what other tests have said."""
    rooms = RoomManager(redis.url)
    rooms.history("said:*")
    async with rooms:
        for room in ("lobby", "tea"):
            await rooms.clear_history(f"said:{room}")


async def announce(server: Server, room: str, text: str) -> None:
    """What a program says to the room, by HTTP."""
    assert await post(server, f"/announce/{room}", {"text": text}) == 202


async def post(server: Server, path: str, body: Any = None, token: str | None = None) -> int:
    """Post JSON; returns the status."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        server.url(path, "http"), json.dumps(body).encode(), headers, method=HTTPMethod.POST
    )

    def send() -> int:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code

    return await asyncio.to_thread(send)


@asynccontextmanager
async def program(server: Server, worker: str, name: str) -> AsyncIterator[ClientConnection]:
    """A connection to that worker which does not come back if it ends."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            connection = await connect(server.url(f"/ws?name={name}"))
            if json.loads(await connection.recv())["worker"] == worker:
                break
            await connection.close()
    yield connection
    await connection.close()
