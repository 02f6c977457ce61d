"""Two workers that keep what is said in a room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.testing import Proxy, RedisServer
from tests.faults.kept import Worker, worker


@pytest.fixture
async def near(own_redis: RedisServer, wire: Proxy) -> AsyncIterator[Worker]:
    """A worker on the wire."""
    async with worker(own_redis.url_of(wire.host, wire.port)) as one:
        yield one


@pytest.fixture
async def far(own_redis: RedisServer) -> AsyncIterator[Worker]:
    """A worker with a connection of its own."""
    async with worker(own_redis.url) as one:
        yield one
