"""What the tests of this folder start from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.unit.gateway.scene import Scene
from tests.unit.gateway.support import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Edges and backends, which end with the test."""
    async with AsyncExitStack() as stack:
        yield Site(stack)


@pytest.fixture
async def scene(site: Site) -> Scene:
    return Scene(site, await site.edge())


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next endpoint does not join is left soon."""
    monkeypatch.setattr("fastapi_rooms.gateway.socket.GRACE", 0.05)
