"""Workers whose clients speak the framing, in memory and through Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RoomManager
from fastapi_rooms.adapters import Adapter
from fastapi_rooms.testing import RedisServer
from tests.conformance.framing.members import SIZE, Make, Pair


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest, own_redis: RedisServer) -> Make:
    """Make a worker's manager, which remembers what is said in `chat-*`."""
    bus = MemoryBus()

    def make(**settings: Any) -> RoomManager:
        adapter: Adapter | str = MemoryAdapter(bus) if request.param == "memory" else own_redis.url
        rooms = RoomManager(adapter, **settings)
        rooms.history("chat-*", size=SIZE, ttl=60)
        return rooms

    return make


@pytest.fixture
async def pair(make: Make) -> AsyncIterator[Pair]:
    """Two workers."""
    async with make() as one, make() as two:
        yield one, two
