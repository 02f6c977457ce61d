"""What every integration test works with: a Redis, servers that end with their test, clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.clients import Client
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
