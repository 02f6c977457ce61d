"""Jobs that send: on every worker, on one of them, and in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from redis.asyncio import Redis
from starlette.testclient import TestClient
from websockets.sync.client import ClientConnection, connect

from fastapi_rooms import Emitter, RoomManager
from fastapi_rooms.testing import Member, RedisServer
from tests.docs.conftest import write_files
from tests.docs.pages import files_of
from tests.docs.programs import run_server
from tests.docs.registry import shows
from tests.integration.servers import Start, wait_until

PAGE = "docs/recipes/scheduled-jobs.md"


@shows(PAGE, "schedule.py")
def test_a_scheduled_job_sends(example: ModuleType) -> None:
    with TestClient(example.app) as client, client.websocket_connect("/clock") as ann:
        assert ann.receive_text().startswith("20")
        assert ann.receive_text().startswith("20")


def test_a_job_runs_once_on_two_workers(
    start: Start, tmp_path: Path, own_redis: RedisServer
) -> None:
    files = files_of(PAGE)
    files["once.py"] = files["once.py"].replace("EVERY = 60", "EVERY = 1")
    write_files(tmp_path, files, own_redis)
    server = run_server(start, "uvicorn once:app --workers 2", tmp_path)
    wait_until(lambda: server.log.count("Application startup complete") == 2, timeout=60)
    with connect(server.url("/bar")) as ann:
        runs = [run_heard_by(ann) for _ in "1234"]
    assert len(set(runs)) == 4
    server.stop()
    assert server.complaints == []


def run_heard_by(client: ClientConnection) -> int:
    run = json.loads(client.recv(timeout=20))["run"]
    assert isinstance(run, int)
    return run


@shows(PAGE, "once.py")
def test_an_outage_leaves_out_a_run_and_not_the_rest(
    example: ModuleType, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    vars(example).update(
        EVERY=1,
        rooms=example.rooms.clone(own_redis.url, publish_timeout=0.2),
        Redis=Redirected(own_redis.url),
    )
    with TestClient(example.app) as client, client.websocket_connect("/bar") as ann:
        ann.receive_json()
        own_redis.kill()
        wait_until(lambda: "This run is left out." in caplog.messages)
        own_redis.start()
        ann.receive_json()


class Redirected:
    """In place of redis-py's class: connects to one server, whatever the URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def from_url(self, _: str) -> object:
        return Redis.from_url(self.url)


@shows(PAGE, "clock.py")
async def test_a_process_of_its_own_sends(example: ModuleType, redis_server: RedisServer) -> None:
    (job,) = example.scheduler.get_jobs()
    async with RoomManager(redis_server.url) as rooms, Member(rooms, "bar") as ann:
        job.func()
        assert await ann.receive_json() == {"text": "Last orders, please."}
    assert isinstance(example.emitter, Emitter)
    example.emitter.close()
