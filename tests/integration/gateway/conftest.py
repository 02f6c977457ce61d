"""Edges and backends in one process, on the carriers that a test asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.gateway.site import Site, site


@pytest.fixture(params=["memory", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    """Each carrier's."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis")
        return server.url
    return f"memory://{uuid4().hex}"


@pytest.fixture
async def both(url: str) -> AsyncIterator[Site]:
    """Edges and backends on each carrier."""
    async with site(url) as made:
        yield made


@pytest.fixture
async def inmemory() -> AsyncIterator[Site]:
    """Edges and backends in memory."""
    async with site(f"memory://{uuid4().hex}") as made:
        yield made


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is dead is noticed soon: for `usefixtures`, as edges and backends start after it."""
    for module in ("member", "edge", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.1)
