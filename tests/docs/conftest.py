"""What the examples run in: a directory with the page's files, a Redis, a server if need be."""

from __future__ import annotations

import importlib.util
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fastapi_rooms.testing import RabbitMQServer, RedisCluster, RedisServer
from tests.docs.pages import Block, files_of
from tests.integration.servers import Start, starter
from tests.integration.uvicorn_thread import uvicorn_thread

CLUSTER = "redis+cluster://redis1.example.com:6379,redis2.example.com:6379"
REDIS = "redis://localhost:6379"
RABBITMQ = "amqp://user:password@rabbitmq.example.com:5672/vhost"
"""The addresses that the pages use."""

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the programs that a test starts as little as the test itself."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def write_files(directory: Path, files: dict[str, str], redis: RedisServer) -> None:
    """Save files as a reader would, but for the address of Redis."""
    for name, code in files.items():
        (directory / name).write_text(code.replace(REDIS, redis.url))


@pytest.fixture
def example(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis_server: RedisServer,
) -> ModuleType:
    """The module that a block is, imported in a directory with the page's files."""
    block: Block = request.param
    write_files(tmp_path, {**files_of(block.page), block.title: block.code}, redis_server)
    monkeypatch.chdir(tmp_path)
    name = f"example_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, tmp_path / block.title)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def with_rabbitmq(code: str, request: pytest.FixtureRequest) -> str:
    """What a page says of RabbitMQ, with the address of one that is there."""
    if RABBITMQ not in code:
        return code
    server: RabbitMQServer = request.getfixturevalue("rabbitmq_server")
    vhost: str = request.getfixturevalue("rabbitmq_vhost")
    return code.replace(RABBITMQ, server.url_of(server.host, server.port, vhost=vhost))


def as_user(url: str, name: str) -> str:
    """A URL with the login of a user whom the pages show how to make, whatever login it had."""
    return re.sub("//(.*@)?", f"//{name}:a-long-password@", url)


AllowOnCluster = Callable[[list[str]], str]


@pytest.fixture
def allow_on_cluster(redis_cluster: RedisCluster) -> Iterator[AllowOnCluster]:
    """Make a user by an ACL rule on every node, for the time of the test; gives the user's URL."""
    users: list[str] = []

    def allow(rule: list[str]) -> str:
        users.append(rule[rule.index("SETUSER") + 1])
        for node in redis_cluster.nodes:
            node.command(*rule)
        return as_user(redis_cluster.url, users[-1])

    yield allow
    for node in redis_cluster.nodes:
        node.command("ACL", "DELUSER", *users)


Serve = Callable[[Any], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an application with uvicorn in this process; gives its address without the scheme."""
    with ExitStack() as running:

        def serve(app: Any) -> str:
            server = uvicorn_thread(app, lifespan="on", log_level="warning")
            return f"127.0.0.1:{running.enter_context(server)}"

        yield serve


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that end with the test."""
    with starter(tmp_path) as start:
        yield start
