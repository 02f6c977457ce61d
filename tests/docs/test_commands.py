"""The commands that pages tell to run, run on the files that the same pages tell to save."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.sync.client import connect

from fastapi_rooms.testing import RedisServer
from tests.docs.conftest import write_files
from tests.docs.pages import ROOT, Block, blocks, files_of, find
from tests.docs.programs import run_server
from tests.docs.registry import RUN_ELSEWHERE
from tests.integration.servers import Start, wait_until

STARTS = dict.fromkeys(
    (block.page, line)
    for block in blocks("sh")
    for line in block.code.splitlines()
    if line.startswith(("uvicorn", "gunicorn")) and block.page not in RUN_ELSEWHERE
)


@pytest.mark.parametrize(("page", "line"), STARTS, ids=map("-".join, STARTS))
def test_servers_start_and_stop(
    page: str, line: str, start: Start, tmp_path: Path, redis_server: RedisServer
) -> None:
    write_files(tmp_path, files_of(page), redis_server)
    server = run_server(start, line, tmp_path)
    workers = int((re.search(r"(?:--workers|-w) (\d+)", line) or "11")[1])
    wait_until(lambda: server.log.count("Application startup complete") == workers, timeout=60)
    server.stop()
    assert server.complaints == []


def test_tutorial_a_program_meets_both_workers(
    start: Start, tmp_path: Path, redis_server: RedisServer
) -> None:
    files = files_of("docs/tutorial/first-chat.md")
    write_files(tmp_path, files, redis_server)
    server = run_server(start, "uvicorn app:app --workers 2", tmp_path)
    program = files["two_workers.py"].replace("localhost:8000", f"127.0.0.1:{server.port}")
    (tmp_path / "two_workers.py").write_text(program)
    wait_until(lambda: server.log.count("Application startup complete") == 2, timeout=60)
    printed = subprocess.run(
        [sys.executable, "two_workers.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (shown,) = texts("docs/tutorial/first-chat.md", "has heard of")
    assert without_numbers(printed.stdout) == without_numbers(shown)


def test_tutorial_two_workers_in_memory_are_told_so(
    start: Start, tmp_path: Path, redis_server: RedisServer
) -> None:
    app = find("docs/tutorial/first-chat.md", "app.py", version=2)
    write_files(tmp_path, {app.title: app.code}, redis_server)
    server = run_server(start, "uvicorn app:app --workers 2", tmp_path)
    (shown,) = texts("docs/tutorial/first-chat.md", "in memory")
    wait_until(lambda: " ".join(shown.split()) in server.log, timeout=60)


def test_a_process_of_a_pool_sends_by_an_emitter(
    start: Start, tmp_path: Path, redis_server: RedisServer
) -> None:
    write_files(tmp_path, files_of("docs/howto/threads.md"), redis_server)
    server = run_server(start, "uvicorn render:app", tmp_path)
    with connect(server.url("/images/tea")) as ann:
        ann.send("render it")
        assert json.loads(ann.recv(timeout=60)) == {"rendered": 499999500000}
    server.stop()
    assert server.complaints == []


def texts(page: str, containing: str) -> list[str]:
    return [block.code for block in blocks("text", page=page) if containing in block.code]


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "N", text)


TEST_FILES = [block for block in blocks("python") if block.title.startswith("test_")]


@pytest.mark.parametrize("block", TEST_FILES, ids=str)
def test_test_files_pass(block: Block, tmp_path: Path, redis_server: RedisServer) -> None:
    write_files(tmp_path, files_of(block.page), redis_server)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", block.title],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
