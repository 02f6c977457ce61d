"""One Redis and three workers for the tests of this folder; each uses rooms of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration.clients import Client
from tests.integration.servers import Start, starter
from tests.integration.workers import Workers
from tests.recovery.scene import Person, Wire, all_ready, three_workers

NewPerson = Callable[[str], Person]


@pytest.fixture(scope="package")
def redis() -> Iterator[RedisServer]:
    """A Redis that keeps what it is told in a file. Whoever breaks it mends it."""
    with RedisServer(arguments=("--appendonly", "yes", "--appendfsync", "no")) as server:
        yield server


@pytest.fixture(scope="package")
def wire(redis: RedisServer) -> Iterator[Wire]:
    """What all workers reach it by."""
    with Wire(redis) as wire:
        yield wire


@pytest.fixture(scope="package")
def servers(wire: Wire, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """The workers, whatever the last test has done to them."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield three_workers(start, wire.url)


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
async def voices(workers: Workers) -> AsyncIterator[list[Client]]:
    """A client on each worker that is in no room, and speaks to any."""
    clients = [await Client.connect(workers.server(number)) for number in range(3)]
    yield clients
    for client in clients:
        await client.close()


@pytest.fixture
async def person(workers: Workers) -> AsyncIterator[NewPerson]:
    """Make people for a room; they are gone with the test."""
    people: list[Person] = []

    def person(room: str) -> Person:
        people.append(Person(workers, room))
        return people[-1]

    yield person
    for one in people:
        if hasattr(one, "client"):
            await one.client.close()
