"""pytest fixtures: a Redis or RabbitMQ to share, one to break, and a wire to cut.

Nothing is loaded by itself. Enable them in the `conftest.py` at the top of your tests:

    pytest_plugins = ["fastapi_rooms.testing.fixtures"]

| fixture | | for |
|---|---|---|
| `redis_server` | `RedisServer` | the whole run: nobody may harm it |
| `redis_proxy` | `RedisProxy` | one test: the wire to `redis_server`, to be cut or held up |
| `own_redis` | `RedisServer` | one test: to be killed, frozen, restarted, reconfigured |
| `own_redis_proxy` | `RedisProxy` | one test: the wire to `own_redis` |
| `rabbitmq_server` | `RabbitMQServer` | the whole run, all processes of pytest-xdist |
| `rabbitmq_vhost` | `str` | one test: a virtual host on it, gone afterwards |
| `own_rabbitmq` | `RabbitMQServer` | one test: to be killed, frozen; takes some seconds to start |

Each is started when a test first asks for it, on a port of its own; a machine without the program
fails those tests, and says how to get it. A fixture of the same name in your `conftest.py` takes
the place of one here. They need pytest and pytest-asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from fastapi_rooms.testing.rabbitmq import RabbitMQServer
from fastapi_rooms.testing.rabbitmq_shared import SharedRabbitMQServer, place_of_the_run
from fastapi_rooms.testing.redis import RedisProxy, RedisServer

__all__ = [
    "own_rabbitmq",
    "own_redis",
    "own_redis_proxy",
    "rabbitmq_server",
    "rabbitmq_vhost",
    "redis_proxy",
    "redis_server",
]


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole run, which anyone may use and nobody may harm."""
    with RedisServer() as server:
        yield server


@pytest_asyncio.fixture
async def redis_proxy(redis_server: RedisServer) -> AsyncIterator[RedisProxy]:
    """The wire to the shared Redis; what one test does to it harms no other test."""
    async with RedisProxy(redis_server) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    """A Redis for one test, which may do anything to it."""
    async with RedisServer() as server:
        yield server


@pytest_asyncio.fixture
async def own_redis_proxy(own_redis: RedisServer) -> AsyncIterator[RedisProxy]:
    """The wire to the test's own Redis."""
    async with RedisProxy(own_redis) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer]:
    """A RabbitMQ for the whole run, which anyone may use and nobody may harm."""
    with SharedRabbitMQServer(place_of_the_run(tmp_path_factory.getbasetemp())) as server:
        yield server


@pytest.fixture
def rabbitmq_vhost(rabbitmq_server: RabbitMQServer) -> Iterator[str]:
    """A virtual host for one test, on the shared RabbitMQ."""
    with rabbitmq_server.vhost() as name:
        yield name


@pytest_asyncio.fixture
async def own_rabbitmq() -> AsyncIterator[RabbitMQServer]:
    """A RabbitMQ for one test, which may do anything to it."""
    async with RabbitMQServer() as server:
        yield server
