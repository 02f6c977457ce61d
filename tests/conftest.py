"""The servers that tests share, one of each for a pytest process, and who may have them.

Of RabbitMQ, which starts slowly, there is one for all processes.

They are started when first asked for. `own_redis` and its proxy are those that users get; the
shared Redis speaks TLS too.

A folder is a tier. Those of WITH_SERVERS start servers, and go first: they take longest, so that at
the end of a run there are short tests for every process. All others are for `make test-fast`.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import redis.utils
import trustme
from hypothesis import HealthCheck, settings

from fastapi_rooms.testing import (
    Certificates,
    RabbitMQServer,
    RedisCluster,
    RedisProxy,
    RedisServer,
    SentinelServers,
    SharedRabbitMQServer,
)
from fastapi_rooms.testing.rabbitmq_shared import place_of_the_run

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext

pytest_plugins = ["fastapi_rooms.testing.fixtures"]

PASSWORD = "p@ss:/?#word"

WITH_SERVERS = ["integration", "faults", "recovery", "presence", "docs", "conformance"]
SERVERS = {
    *("redis_server", "locked_redis_server", "redis_cluster", "sentinel_servers"),
    *("redis_proxy", "own_redis", "own_redis_proxy", "wire"),
    *("rabbitmq_server", "rabbitmq_vhost", "own_rabbitmq", "browser"),
}
"""The fixtures that start one."""


REPETITIVE = (
    *("stateful/", "fuzz/", "recovery/", "presence/", "docs/"),
    *("conformance/test_redis.py", "faults/presence/", "faults/test_matrix.py"),
    "faults/test_recovery_matrix.py",
)
"""Tests that are not measured: they do again what others do, and measured they take twice as long.

Of all that is measured without this, they alone run one line or branch in 1,500.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those with servers first, and have no other ask for one."""
    items.sort(key=_tier)
    for item in items:
        if _place(item).startswith(REPETITIVE):
            item.add_marker(pytest.mark.no_cover)
        if _tier(item) == len(WITH_SERVERS) and SERVERS & {*getattr(item, "fixturenames", ())}:
            raise pytest.UsageError(
                f"{item.nodeid} asks for a server: its place is in one of {WITH_SERVERS}, "
                "and not among the tests that `make test-fast` runs."
            )


def pytest_collection_finish() -> None:
    """Spare the collector all that stays: by now thousands of tests, walked again each time."""
    gc.collect()
    gc.freeze()


def _place(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).as_posix()


def _tier(item: pytest.Item) -> int:
    folder, _, _ = _place(item).partition("/")
    return WITH_SERVERS.index(folder) if folder in WITH_SERVERS else len(WITH_SERVERS)


# redis-py reads the metadata of its package for each connection, and a run makes tens of thousands.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


# How hypothesis looks for counterexamples. A machine that is busy with something else must not make
# a test fail. `--hypothesis-profile=long` looks for longer.
settings.register_profile(
    "rooms", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("long", settings.get_profile("rooms"), max_examples=3_000)
settings.load_profile("rooms")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for localhost by an authority that nobody knows."""
    directory = tmp_path_factory.mktemp("certificates")
    files = Certificates(*(directory / name for name in ("ca.pem", "server.pem", "server.key")))
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(files.authority)
    server.cert_chain_pems[0].write_to_path(files.certificate)
    server.private_key_pem.write_to_path(files.key)
    return files


@pytest.fixture(scope="session")
def redis_server(certificates: Certificates) -> Iterator[RedisServer]:
    """A Redis that anyone may use and nobody may harm."""
    with RedisServer(certificates=certificates) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RabbitMQServer]:
    """A RabbitMQ that speaks TLS too, one for all processes. Whoever breaks something mends it."""
    place = place_of_the_run(tmp_path_factory.getbasetemp())
    with SharedRabbitMQServer(place, certificates=certificates) as server:
        yield server


@pytest.fixture(scope="session")
def locked_redis_server() -> Iterator[RedisServer]:
    """The same, with a password."""
    with RedisServer(password=PASSWORD) as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_servers() -> Iterator[SentinelServers]:
    """A master, a replica and three sentinels. Whoever fails them over restores them."""
    with SentinelServers() as servers:
        yield servers


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """Three masters that anyone may use and nobody may harm."""
    with RedisCluster(password=PASSWORD) as cluster:
        yield cluster


# Tests that have a browser run in its event loop: loop_scope="session".


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    from tests.integration.browser import chromium

    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def window(browser: Browser) -> AsyncIterator[BrowserContext]:
    """A browser's window, for one test."""
    from tests.integration.browser import window

    async with window(browser) as context:
        yield context


@pytest.fixture
def wire(own_redis_proxy: RedisProxy) -> RedisProxy:
    """The wire to the test's own Redis, to be cut."""
    return own_redis_proxy
