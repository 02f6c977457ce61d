"""Some real uvicorn workers on one real Redis, which the tests of this folder leave whole."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.clients import Client
from tests.integration.servers import starter, uvicorn
from tests.integration.several_workers.people import People
from tests.integration.workers import Connect, Workers


@pytest.fixture(scope="package", params=["three servers", "one server with two workers"])
def workers(
    request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    with starter(tmp_path_factory.mktemp("servers")) as start:
        if request.param == "three servers":
            servers = [start(uvicorn(), ROOMS_URL=redis.url) for _ in range(3)]
            workers = Workers.each_of(servers)
        else:
            servers = [start(uvicorn("--workers", "2"), ROOMS_URL=redis.url)]
            workers = Workers.of(servers[0], 2)
        yield workers
        assert [line for server in servers for line in server.complaints] == []


@pytest.fixture
def people(workers: Workers, connect: Connect) -> People:
    """Connect so many people, each on the next worker."""

    async def people(count: int, path: str = "/ws") -> list[Client]:
        return [await workers.connect(connect, number, path) for number in range(count)]

    return people


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"room-{secrets.token_hex(4)}"
