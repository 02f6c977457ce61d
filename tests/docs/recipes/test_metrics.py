"""Metrics of all workers, by whichever of them is asked."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from types import ModuleType

from starlette.testclient import TestClient
from websockets.sync.client import connect

from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import write_files
from tests.docs.pages import blocks, files_of
from tests.docs.programs import run_server
from tests.docs.registry import shows
from tests.docs.sessions import joined
from tests.integration.servers import Start, wait_until

PAGE = "docs/recipes/metrics.md"
LINE = re.compile(r'(\w+)\{worker="([0-9a-f]{16})"\} ([0-9.]+)')


def parsed(text: str) -> dict[str, dict[str, float]]:
    """The numbers of each worker, by their names."""
    workers: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        workers.setdefault(match[2], {})[match[1]] = float(match[3])
    return workers


@shows(PAGE, "app.py")
def test_a_worker_counts_its_sockets_and_rooms(example: ModuleType) -> None:
    with (
        TestClient(example.app) as client,
        joined(client, example.rooms, "/chat/tea", "/chat/tea"),
    ):
        response = client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        (numbers,) = parsed(response.text).values()
        assert numbers["rooms_sockets"] == 2
        assert numbers["rooms_rooms"] == 1
        assert numbers["rooms_ready"] == 1
    (shown,) = blocks("text", page=PAGE)
    (example_numbers,) = parsed(shown.code).values()
    assert example_numbers.keys() == numbers.keys()


def test_one_worker_answers_for_all(start: Start, tmp_path: Path, own_redis: RedisServer) -> None:
    write_files(tmp_path, files_of(PAGE), own_redis)
    server = run_server(start, "uvicorn app:app --workers 2", tmp_path)
    wait_until(lambda: server.log.count("Application startup complete") == 2, timeout=60)

    def sockets() -> list[float]:
        with urllib.request.urlopen(server.url("/metrics", "http"), timeout=20) as response:
            workers = parsed(response.read().decode())
        return [numbers["rooms_sockets"] for numbers in workers.values()]

    with connect(server.url("/chat/tea")), connect(server.url("/chat/tea")):
        wait_until(lambda: sum(sockets()) == 2)
        for _ in range(10):  # whoever of the two is asked
            assert (len(sockets()), sum(sockets())) == (2, 2)
    server.stop()
    assert server.complaints == []
