"""The command line, beside workers in this process and a real Redis."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from fastapi_rooms import RedisAdapter, UsageError, __version__
from fastapi_rooms.cli.session import Session
from fastapi_rooms.cluster.commands import COMMANDS
from fastapi_rooms.testing import Cluster, Proxy, RedisServer, eventually
from tests.integration.terminal import (
    ROOT,
    Output,
    at_a_terminal,
    findings,
    program,
    run,
    tailing_at_a_terminal,
)


@pytest.fixture
async def workers(own_redis: RedisServer) -> AsyncIterator[Cluster]:
    async with Cluster(2, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        yield cluster


@pytest.fixture
def url(own_redis: RedisServer, workers: Cluster) -> str:
    return own_redis.url


# rooms, sockets, nodes


async def test_rooms_are_listed_with_the_number_of_their_sockets(
    workers: Cluster, url: str
) -> None:
    one, two = workers
    ann = await workers.member(one, "tea", "kitchen")
    await workers.member(two, "tea")
    await workers.member(two.of("/chat"), "coffee")
    assert (await run("rooms", url=url)).json == [
        {"room": "kitchen", "sockets": 1},
        {"room": "tea", "sockets": 2},
    ]
    assert {"room": ann.sid, "sockets": 1} in (await run("rooms", "--all", url=url)).json
    elsewhere = await run("rooms", "--namespace", "/chat", url=url)
    assert elsewhere.json == [{"room": "coffee", "sockets": 1}]
    assert (await run("rooms", "--prefix", "other", url=url)).json == []


async def test_sockets_are_listed_with_their_rooms_and_data(workers: Cluster, url: str) -> None:
    one, two = workers
    ann = await workers.member(one, "tea", data={"user": "ann"})
    bob = await workers.member(two, "coffee", sid="bob")
    found = (await run("sockets", url=url)).json
    assert {socket["sid"] for socket in found} == {ann.sid, "bob"}
    (of_ann,) = (await run("sockets", "tea", url=url)).json
    assert of_ann == {
        "sid": ann.sid,
        "node": ann.sid.partition(".")[0],
        "rooms": sorted(["tea", ann.sid]),
        "data": {"user": "ann"},
    }
    assert (await run("sockets", bob.sid, url=url)).json[0]["rooms"] == ["bob", "coffee"]


async def test_nodes_say_where_they_run(workers: Cluster, url: str) -> None:
    await workers.member(workers[0].of("/chat"))
    found = (await run("nodes", url=url)).json
    assert {node["node"] for node in found} == workers[0].nodes()
    assert {node["pid"] for node in found} == {os.getpid()}
    assert {node["version"] for node in found} == {__version__}
    assert sorted(node["sockets"] for node in found) == [0, 1]


async def test_a_worker_describes_itself_to_another(workers: Cluster) -> None:
    one, two = workers
    await workers.member(one)
    assert [replace(w, uptime=0) for w in await one.workers()] == [
        replace(w, uptime=0) for w in await two.workers()
    ]
    assert sum(worker.sockets for worker in await two.workers()) == 1


async def test_a_node_of_an_older_version_is_unknown(
    workers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = workers[0].nodes()
    monkeypatch.delitem(COMMANDS, "describe")
    done = await run("nodes", url=url)
    assert done.code == 0
    assert {(n["node"], n["version"], n["pid"]) for n in done.json} == {
        (node, "unknown", None) for node in nodes
    }
    checked = await run("doctor", url=url)
    (versions,) = [f for f in checked.json if f["subject"] == "versions"]
    assert (checked.code, versions["grade"]) == (0, "note")


async def test_a_node_that_refuses_says_why(
    workers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(*_: Any) -> Any:
        raise UsageError("1024 requests are under way here already.")

    monkeypatch.setitem(COMMANDS, "describe", too_much)
    done = await run("nodes", url=url)
    assert done.code == 1
    assert {(n["node"], n["version"]) for n in done.json} == {
        (node, "refused") for node in workers[0].nodes()
    }
    assert done.err.count("refused to answer: 1024 requests are under way") == 2
    code, found = await findings(url)
    assert (code, found["workers"]["grade"]) == (1, "wrong")
    assert "2 workers refused to answer: 1024 requests" in found["workers"]["text"]
    assert "versions" not in found


async def test_what_is_known_is_shown_though_a_worker_does_not_answer(
    workers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workers.member(workers[0], "tea")
    runtime = workers[1]._runtime
    silent = runtime.run.node
    monkeypatch.setattr(runtime.run.cluster._responder, "requested", lambda request: None)
    for command in ("rooms", "sockets"):
        done = await run(command, "--timeout", "0.5", url=url)
        assert done.code == 1
        assert len(done.json) == 1
        assert f"did not answer: {silent}" in done.err
    done = await run("nodes", "--timeout", "0.5", url=url)
    assert done.code == 1
    assert {n["node"]: n["version"] for n in done.json} == {
        workers[0]._runtime.run.node: __version__,
        silent: "no answer",
    }
    code, found = await findings(url, "--timeout", "0.5")
    assert code == 1
    assert [f["text"] for f in found.values() if f["grade"] == "wrong"] == [
        "1 worker did not answer"
    ]


@pytest.mark.parametrize("timeout", [0.01, 60, 10**6])
def test_a_worker_that_hangs_is_not_taken_for_dead_while_a_command_waits(timeout: float) -> None:
    manager = Session("redis://nowhere.invalid", "rooms", "/", timeout).manager()
    heartbeat = manager._runtime.settings.heartbeat.interval
    assert heartbeat >= min(timeout, 3600)


# at a terminal


async def test_a_person_gets_a_table_that_fits_and_that_no_client_can_tamper_with(
    workers: Cluster, url: str
) -> None:
    data = {"user": "ann", "says": "\x1b[2J" + "é" * 160}
    ann = await workers.member(workers[0], "tea", "\x1b[31m[bold]red", data=data)
    for arguments, shown in (
        (["sockets"], ann.sid),
        (["rooms"], "\\x1b[31m[bold]red"),
        (["nodes"], __version__),
        (["doctor"], "2 workers answered, with 1 socket"),
    ):
        done = await at_a_terminal(*arguments, url=url)
        assert (done.code, done.err) == (0, "")
        assert shown in done.out
        assert "\x1b" not in done.out
        assert max(map(len, done.out.splitlines())) <= 80
        assert arguments != ["sockets"] or done.out.count("é") == 160
    done = await at_a_terminal("sockets", "--json", url=url)
    assert done.json[0]["data"] == data


async def test_a_person_is_told_that_there_is_nothing(url: str) -> None:
    done = await at_a_terminal("sockets", "tea", url=url)
    assert done == Output(0, "There are no sockets.\n", "")


async def test_a_person_sees_a_message_in_one_line(
    workers: Cluster, own_redis: RedisServer
) -> None:
    tail = await tailing_at_a_terminal("tea", "--count", "2", url=own_redis.url)
    await workers[0].to("tea").send_text("one\x1b[2J\ntwo")
    await workers[0].to("tea").send_bytes(b"\xff")
    done = await tail
    assert done.out == "tea  one\\x1b[2J\\ntwo\ntea  b'\\xff'\n"
    assert "stop with Ctrl+C" in done.err


# the program


async def test_ctrl_c_is_how_tail_ends(own_redis: RedisServer) -> None:
    async with program("tail", "tea", "--url", own_redis.url) as process:
        await eventually(lambda: own_redis.numsub("rooms#/#tea#") == 1)
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"")
    assert process.returncode == 0
    await eventually(lambda: not own_redis.connections())


async def test_ctrl_c_ends_anything_else_as_a_shell_expects(wire: Proxy) -> None:
    wire.stall()
    async with program("rooms", "--url", f"redis://{wire.host}:{wire.port}") as process:
        await eventually(lambda: wire.accepted)
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"")
    assert process.returncode == 130


def completed(*arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(python or ("-m", "fastapi_rooms.cli")), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_the_program_tells_its_version_and_how_to_use_it() -> None:
    assert completed("--version").stdout.strip() == __version__
    for arguments in ([], ["emit", "--help"], ["tail", "-h"]):
        done = await run(*arguments)
        assert "Usage: fastapi-rooms" in done.out + done.err
        assert done.code == (0 if arguments else 2)


def test_no_summary_of_a_command_is_cut_off_at_80_columns() -> None:
    assert not re.search(r"\w\.\.\.$", completed("--help").stdout, re.MULTILINE)


def test_without_typer_the_program_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['typer'] = None; from fastapi_rooms.cli import main; main()"
    done = completed(python=("-c", code))
    assert (done.returncode, done.stdout) == (2, "")
    assert 'pip install "fastapi-rooms[cli]"' in done.stderr


async def test_the_program_ends_with_1_where_redis_is_out_of_reach() -> None:
    done = completed("rooms", "--url", "redis://127.0.0.1:1", "--timeout", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("fastapi-rooms: ")
    assert "127.0.0.1:1" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = completed("emit", "tea", "hello", "--url", "redis://127.0.0.1:1")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
