"""What integration tests work with: a Redis, servers that end with the test, clients, a browser."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext

from fastapi_rooms.testing import RedisServer
from tests.integration.clients import Client
from tests.integration.example import Scene, Servers, ann_and_bob, forget, started
from tests.integration.servers import Server, Start, starter
from tests.integration.workers import Connect


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis that nobody uses but the tests of this process, one after the other."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    with starter(tmp_path) as start:
        yield start


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect clients that are gone with the test."""
    clients: list[Client] = []

    async def connect(server: Server, path: str = "/ws", **options: Any) -> Client:
        client = await Client.connect(server, path, **options)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is freed in the test is freed because nothing refers to it."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="package")
def example_redis() -> Iterator[RedisServer]:
    """The Redis of `servers`."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="package")
def servers(
    example_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Servers]:
    """Servers for tests that leave them whole: each is started when it is first asked for."""
    with starter(tmp_path_factory.mktemp("servers")) as start:

        @cache
        def server(kind: str) -> Server:
            return started(start, kind, example_redis)

        yield server


@pytest_asyncio.fixture(params=["uvicorn"], loop_scope="session")
async def scene(
    request: pytest.FixtureRequest,
    servers: Servers,
    window: BrowserContext,
    example_redis: RedisServer,
) -> AsyncIterator[Scene]:
    """Ann and Bob on a server that other tests meet, too, and that complains of nothing."""
    await forget(example_redis)
    server = servers(request.param)
    complaints = len(server.complaints)
    async with ann_and_bob(server, window) as scene:
        yield scene
    assert server.complaints[complaints:] == []


@pytest_asyncio.fixture(params=["uvicorn"], loop_scope="session")
async def own_scene(
    request: pytest.FixtureRequest, own_redis: RedisServer, start: Start, window: BrowserContext
) -> AsyncIterator[Scene]:
    """Ann and Bob on a server and a Redis for one test, which may do anything to both."""
    async with ann_and_bob(started(start, request.param, own_redis), window) as scene:
        yield scene
