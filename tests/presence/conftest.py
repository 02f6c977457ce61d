"""One Redis and three workers for the tests of this folder; each uses rooms of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.servers import Start, starter
from tests.integration.workers import Workers
from tests.presence.scene import Users, three_workers
from tests.recovery.scene import all_ready


@pytest.fixture(scope="package")
def redis() -> Iterator[RedisServer]:
    """A Redis of these tests. Whoever breaks it mends it."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="package")
def servers(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The workers, whatever the last test has done to them."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield three_workers(start, redis.url)


@pytest.fixture
async def workers(servers: Workers) -> Workers:
    """The workers, all of them ready."""

    await all_ready(servers)
    return servers


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers that end with the test."""
    with starter(tmp_path) as start:
        yield start


@pytest.fixture
async def users(workers: Workers) -> AsyncIterator[Users]:
    """Users for these workers; they are gone with the test."""
    users = Users(workers)
    yield users
    await users.everyone_goes()
