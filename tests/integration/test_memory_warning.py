"""Rooms in memory with several workers: they do not meet, and the log says so, once per worker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from fastapi_rooms.testing import RedisServer
from tests.integration import servers
from tests.integration.servers import Server, Start

Command = Callable[[int], list[str]]

uvicorn, gunicorn, hypercorn, granian = (
    partial(server, app="tests.integration.rooms_alone:app")
    for server in (servers.uvicorn, servers.gunicorn, servers.hypercorn, servers.granian)
)
CONFIG = Path(__file__).with_name("gunicorn_two_workers.py")


def program(*arguments: str) -> Command:
    """A program of its own that calls `uvicorn.run`."""
    module = "tests.integration.programmatic"
    return lambda port: [sys.executable, "-m", module, str(port), *arguments]


TWO_WORKERS: dict[str, tuple[Command, dict[str, str]]] = {
    "uvicorn": (uvicorn("--workers", "2"), {}),
    "uvicorn.run": (program("2"), {}),
    "uvicorn WEB_CONCURRENCY": (uvicorn(), {"WEB_CONCURRENCY": "2"}),
    "uvicorn.run WEB_CONCURRENCY": (program(), {"WEB_CONCURRENCY": "2"}),
    "uvicorn UVICORN_WORKERS": (uvicorn(), {"UVICORN_WORKERS": "2"}),
    "gunicorn": (gunicorn("-w", "2"), {}),
    "gunicorn --preload": (gunicorn("-w2", "--preload"), {}),
    "gunicorn config file": (gunicorn("-c", str(CONFIG)), {}),
    "gunicorn WEB_CONCURRENCY": (gunicorn(), {"WEB_CONCURRENCY": "2"}),
    "gunicorn GUNICORN_CMD_ARGS": (gunicorn(), {"GUNICORN_CMD_ARGS": "--workers=2"}),
    "hypercorn": (hypercorn("--workers=2"), {}),
    "granian": (granian("--workers", "2"), {}),
}
ONE_WORKER: dict[str, tuple[Command, dict[str, str]]] = {
    "uvicorn": (uvicorn(), {}),
    "uvicorn --workers 1": (uvicorn("--workers", "1"), {"WEB_CONCURRENCY": "2"}),
    "uvicorn.run": (program("1"), {}),
    "uvicorn --reload": (uvicorn("--reload", "--reload-dir", "tests/integration"), {}),
    "uvicorn --reload WEB_CONCURRENCY": (
        uvicorn("--reload", "--reload-dir", "tests/integration"),
        {"WEB_CONCURRENCY": "2"},
    ),
    "gunicorn": (gunicorn(), {}),
    "gunicorn -w 1": (gunicorn("-w", "1"), {"WEB_CONCURRENCY": "2"}),
}


def warnings_of(server: Server) -> list[str]:
    return [line for line in server.log.splitlines() if "keeps its rooms in memory" in line]


@pytest.mark.parametrize("kind", TWO_WORKERS)
def test_two_workers_with_rooms_in_memory_warn_once_each(kind: str, start: Start) -> None:
    command, env = TWO_WORKERS[kind]
    server = start(command, **env)
    server.wait_for_workers(2)
    warnings = warnings_of(server)
    assert len(warnings) == 2, server.log
    assert all("2 worker processes" in line and "redis://" in line for line in warnings)


@pytest.mark.parametrize("kind", ONE_WORKER)
def test_one_worker_with_rooms_in_memory_does_not_warn(kind: str, start: Start) -> None:
    command, env = ONE_WORKER[kind]
    server = start(command, **env)
    server.wait_for_workers()
    assert warnings_of(server) == []


@pytest.mark.parametrize("kind", ["uvicorn", "gunicorn"])
def test_two_workers_with_redis_do_not_warn(kind: str, start: Start, redis: RedisServer) -> None:
    command, env = TWO_WORKERS[kind]
    server = start(command, ROOMS_URL=redis.url, **env)
    server.wait_for_workers(2)
    assert warnings_of(server) == []
