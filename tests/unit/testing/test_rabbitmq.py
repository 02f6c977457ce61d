"""A RabbitMQ of one's own, as far as it can be told without one."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastapi_rooms.testing import RabbitMQNotInstalled, RabbitMQServer, SharedRabbitMQServer
from fastapi_rooms.testing.rabbitmq import process_lives
from fastapi_rooms.testing.rabbitmq_shared import place_of_the_run


def test_one_that_is_not_installed_says_how_to_get_it() -> None:
    with pytest.raises(RabbitMQNotInstalled, match="apt-get install rabbitmq-server"):
        RabbitMQServer(executable="/nowhere/rabbitmq-server").start()


def test_one_that_does_not_run_says_so_and_can_be_killed() -> None:
    server = RabbitMQServer()
    assert not server.is_running
    assert not server.is_there
    server.kill()
    with pytest.raises(RuntimeError, match="not running"):
        server.evaluate("1 + 1")
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.pid


def test_a_shared_one_is_in_a_place_that_the_processes_of_a_run_share(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert place_of_the_run(tmp_path / "gw0") == tmp_path / "rabbitmq"
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert place_of_the_run(tmp_path / "base") == tmp_path / "base" / "rabbitmq"


def test_a_shared_one_that_could_not_start_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = SharedRabbitMQServer(tmp_path / "place")
    monkeypatch.setattr(server, "_executable", "/nowhere/rabbitmq-server")
    with pytest.raises(RabbitMQNotInstalled), server:
        pass
    assert not server.is_running


@pytest.fixture
def started() -> Iterator[subprocess.Popen[bytes]]:
    """Some process."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait(10)


def test_one_that_another_process_has_started_can_be_ended_by_this_one(
    started: subprocess.Popen[bytes],
) -> None:
    server = RabbitMQServer()
    server._pid = started.pid
    server.kill()
    assert started.wait(10) == -signal.SIGKILL
    assert not process_lives(started.pid)
    server.kill()


def test_one_that_ends_as_it_starts_says_what_it_wrote_and_leaves_nothing(tmp_path: Path) -> None:
    program = tmp_path / "rabbitmq-server"
    program.write_text("#!/bin/sh\nmkdir -p log && echo 'no Erlang here' > log/r.log\nexit 1\n")
    program.chmod(0o755)
    server = RabbitMQServer(executable=str(program))
    assert server.url == "amqp://guest:guest@127.0.0.1:0/%2F"
    with pytest.raises(RuntimeError, match=r"did not start:\nno Erlang here"):
        server.start()
    assert not server.is_running
    server._tear_down()
    assert server._directory is None
