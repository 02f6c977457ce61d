"""What the examples run in: a directory with the page's files, a Redis, a server if need be."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvicorn

from fastapi_rooms.testing import RedisServer
from tests.docs.pages import Block, files_of
from tests.integration.servers import Start, starter, wait_until

CLUSTER = "redis+cluster://redis1.example.com:6379,redis2.example.com:6379"
REDIS = "redis://localhost:6379"
"""The address that the pages use."""

_numbers = itertools.count(1)


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


Serve = Callable[[Any], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve an application with uvicorn in this process; gives its address without the scheme."""
    with ExitStack() as running:
        yield lambda app: running.enter_context(_served(app))


@contextmanager
def _served(app: Any) -> Iterator[str]:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="on", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start programs that end with the test."""
    with starter(tmp_path) as start:
        yield start
