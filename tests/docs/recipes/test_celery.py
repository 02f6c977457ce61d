"""Tasks of Celery's forked workers, started by an application on two workers."""

from __future__ import annotations

import http.client
import json
import shlex
import sys
from pathlib import Path

from websockets.sync.client import connect

from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import write_files
from tests.docs.pages import ROOT, blocks, files_of
from tests.docs.programs import run_server
from tests.integration.servers import Start

PAGE = "docs/recipes/celery.md"


def test_tasks_reach_their_user(start: Start, tmp_path: Path, own_redis: RedisServer) -> None:
    write_files(tmp_path, files_of(PAGE), own_redis)
    ((web, line),) = [block.code.splitlines() for block in blocks("sh", page=PAGE)]
    command = [sys.executable, "-m", *shlex.split(line), "--concurrency", "2"]
    server = run_server(start, web, tmp_path)
    celery = start(lambda _: command, PYTHONPATH=f"{tmp_path}:{ROOT}", PYTHONWARNINGS="")
    with connect(server.url("/notifications?user=ann")) as ann:
        assert json.loads(ann.recv(timeout=20)) == {"joined": "ann"}
        for _ in "1234":
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            connection.request("POST", "/reports?user=ann")
            assert connection.getresponse().status == 202
            connection.close()
        reports = [json.loads(ann.recv(timeout=60)) for _ in range(8)]
    assert reports.count({"report": "started"}) == 4
    assert reports.count({"report": "ready", "rows": 499500}) == 4
    celery.stop()
    server.stop()
    assert server.complaints == []
