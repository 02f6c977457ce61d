"""What most tests start from: a manager that runs, and three clients in its rooms."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def rooms(adapter: FakeAdapter) -> AsyncIterator[RoomManager]:
    """A manager that runs, on an adapter in the test's hands, without a linger."""
    async with RoomManager(adapter, linger=0) as rooms:
        yield rooms


@pytest.fixture
async def people(rooms: RoomManager) -> AsyncIterator[dict[str, Member]]:
    """Ann is in lobby and bar, Bob in lobby, Cid in none."""
    async with (
        Member(rooms, "lobby", "bar", sid="ann") as ann,
        Member(rooms, "lobby", sid="bob") as bob,
        Member(rooms, sid="cid") as cid,
    ):
        yield {"ann": ann, "bob": bob, "cid": cid}
