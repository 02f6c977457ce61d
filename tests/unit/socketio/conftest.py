"""A manager among Node servers, on a carrier in a test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from fastapi_rooms import (
    RoomManager,
    SocketIO,
)
from fastapi_rooms.testing import Member
from tests.unit.socketio_support import SharedAdapter


@pytest_asyncio.fixture
async def adapter() -> SharedAdapter:
    return SharedAdapter()


@pytest_asyncio.fixture
async def rooms(adapter: SharedAdapter) -> AsyncIterator[RoomManager]:
    async with RoomManager(adapter, socketio=SocketIO(), drain_timeout=0.2) as rooms:
        yield rooms


@pytest_asyncio.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Member]:
    async with Member(rooms, "red", sid="ann", data={"name": "Ann"}) as member:
        yield member
