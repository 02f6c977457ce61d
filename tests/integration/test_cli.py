"""The command line, beside workers in this process and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastapi_rooms import RedisAdapter, UsageError, __version__
from fastapi_rooms.cli import app as app_module
from fastapi_rooms.cli.session import Session
from fastapi_rooms.cluster.commands import COMMANDS
from fastapi_rooms.testing import Cluster, Proxy, RedisServer, eventually
from tests.integration.terminal import Output, at_a_terminal, findings, run

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command as a terminal does, and end it whatever happens in the block.

    What Ctrl+C does to it is not what it does to us: a shell has what it runs in the background
    ignore SIGINT, and Python leaves that as it is.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_rooms.cli", *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


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


# emit, tail, disconnect


async def test_emit_sends_text_json_and_what_it_reads(workers: Cluster, url: str) -> None:
    member = await workers.member(workers[0], "tea")
    muted = await workers.member(workers[1], "tea", "muted")
    chatting = await workers.member(workers[1].of("/chat"), "tea")
    for done in (
        await run("emit", "tea", "coffee", "hello", url=url),
        await run("emit", "tea", '{"a":  [1e2]}', "--json", "--except", "muted", url=url),
        await run("emit", "tea", "-", url=url, given="täxt\n"),
        await run("emit", "--everyone", "last", url=url),
        await run("--namespace", "chat", "emit", "tea", "chat", f"--url={url}"),
    ):
        assert done == Output(0, "", "")
    assert await member.receive_until("last") == ["hello", '{"a":  [1e2]}', "täxt"]
    assert await muted.receive_until("last") == ["hello", "täxt"]
    assert await chatting.receive() == "chat"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["emit", "hello"], "or use --everyone"),
        (["emit", "--everyone", "tea", "hello"], "or use --everyone"),
        (["emit", "tea", "{", "--json"], "not JSON"),
        (["emit", "", "hello"], "A room name must be"),
        (["emit", "tea", "\udcff"], "not UTF-8"),
        (["disconnect", "tea", "--reason", "\udcff"], "A close reason"),
        (["rooms", "--prefix", "a#b"], "A prefix must be"),
        (["rooms", "--namespace", "a#b"], "A namespace must be"),
        (["disconnect", "tea", "--code", "1006"], "close code"),
        (["rooms", "--url", ""], "No Redis URL"),
        (["emit", "tea", "hello", "--url", "memory://"], "another process"),
        (["rooms", "--url", "http://localhost"], "scheme is not known"),
        (["rooms", "--url", " Memory://"], "another process"),
        (["rooms", "--url", "redis://:se/cret@localhost"], "Percent-encode"),
        (["tail"], "use --everyone"),
        (["doctor", "--url", "redis://localhost:port"], "Redis URL cannot be used"),
        (["brew"], "No such command"),
        (["tail", "tea", "--count", "0"], "Invalid value for '--count'"),
    ],
)
async def test_what_makes_no_sense_ends_with_2(arguments: list[str], why: str, url: str) -> None:
    done = await run(*arguments, url=url)
    assert (done.code, done.out) == (2, "")
    assert why in done.err


async def test_tail_shows_what_is_sent(workers: Cluster, own_redis: RedisServer) -> None:
    async with program("tail", "tea", "milk", "--count", "3", "--url", own_redis.url) as tail:
        for room in ("tea", "milk"):
            await eventually(lambda: own_redis.numsub(f"rooms#/#{room}#") == 1)  # noqa: B023
        await workers[0].to("tea").send_text("hel\nlo")
        await workers[0].to("milk").send_bytes(b"\x00\xff")
        await workers[0].to("tea", "milk").send_json({})
        out, _ = await tail.communicate()
    assert [json.loads(line) for line in out.splitlines()] == [
        {"room": "tea", "text": "hel\nlo"},
        {"room": "milk", "bytes": "AP8="},
        {"room": "tea", "text": "{}"},
    ]
    assert tail.returncode == 0


async def test_disconnect_closes_one_socket_without_asking(workers: Cluster, url: str) -> None:
    ann = await workers.member(workers[0], "tea")
    bob = await workers.member(workers[1], "tea")
    done = await run("disconnect", ann.sid, "--code", "4000", "--reason", "bye", url=url)
    assert (done.code, done.json) == (0, {"disconnected": 1})
    assert (await ann.wait_closed(), ann.close_reason) == (4000, "bye")
    assert bob.close_code is None


async def test_disconnect_asks_before_it_closes_several(workers: Cluster, url: str) -> None:
    members = [await workers.member(worker, "tea") for worker in workers]
    done = await run("disconnect", "tea", url=url)
    assert (done.code, done.out) == (2, "")
    assert "use --yes" in done.err
    done = await at_a_terminal("disconnect", "tea", url=url, typed="n\n")
    assert done.code == 1
    assert "Disconnect 2 sockets?" in done.err
    assert "nothing was done" in done.err
    assert [member.close_code for member in members] == [None, None]
    done = await at_a_terminal("disconnect", "tea", url=url, typed="y\n")
    assert (done.code, done.out.splitlines()[-1]) == (0, "Disconnected: 2")
    assert [await member.wait_closed() for member in members] == [1000, 1000]


async def test_disconnect_disconnects_whom_it_has_asked_about_and_no_other(
    workers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bob = [await workers.member(worker, "tea") for worker in workers]
    loop, late = asyncio.get_running_loop(), []

    async def change() -> None:
        await ann.close()
        late.append(await workers.member(workers[0], "tea"))

    def answer(question: str) -> None:
        assert question == "Disconnect 2 sockets?"
        asyncio.run_coroutine_threadsafe(change(), loop).result(10)

    monkeypatch.setattr(app_module, "_confirm", answer)
    assert (await run("disconnect", "tea", url=url)).json == {"disconnected": 1}
    assert await bob.wait_closed() == 1000
    assert late[0].close_code is None


async def test_disconnect_takes_no_room_for_the_sid_it_is_called_like(
    workers: Cluster, url: str
) -> None:
    bob = await workers.member(workers[0], sid="bob")
    in_bob = await workers.member(workers[1], "bob", "tea")
    assert (await run("disconnect", "tea", url=url)).json == {"disconnected": 1}
    assert await in_bob.wait_closed() == 1000
    assert bob.close_code is None


async def test_disconnect_of_nobody_says_so(url: str) -> None:
    assert (await run("disconnect", "tea", url=url)).json == {"disconnected": 0}
    done = await at_a_terminal("disconnect", "tea", url=url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nobody was disconnected")


async def test_disconnect_reports_what_it_did_though_a_worker_does_not_answer(
    workers: Cluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [await workers.member(worker, "tea") for worker in workers]
    runtime = workers[1]._runtime
    monkeypatch.setattr(runtime.run.cluster._responder, "requested", lambda request: None)
    done = await run("disconnect", "tea", "--yes", "--timeout", "1", url=url)
    assert (done.code, done.json) == (1, {"disconnected": 1})
    assert f"did not answer: {runtime.run.node}" in done.err
    assert await members[0].wait_closed() == 1000


async def test_tail_shows_what_goes_to_everyone_if_it_is_asked_to(
    workers: Cluster, own_redis: RedisServer
) -> None:
    both = asyncio.ensure_future(
        run("tail", "tea", "--everyone", "--count", "2", url=own_redis.url)
    )
    await eventually(lambda: own_redis.numsub("rooms#/#tea#") == 1)
    person = asyncio.ensure_future(
        at_a_terminal("tail", "--everyone", "--count", "1", url=own_redis.url)
    )
    await eventually(lambda: own_redis.numsub("rooms#/#") == 2)
    await workers[0].to("tea").send_text("to the room")
    await workers[0].send_text("to all")
    assert [json.loads(line) for line in (await both).out.splitlines()] == [
        {"room": "tea", "text": "to the room"},
        {"room": None, "text": "to all"},
    ]
    done = await person
    assert done.out == "(everyone)  to all\n"
    assert "listening to what is sent to everyone" in done.err


@pytest.mark.parametrize("command", ["rooms", "sockets", "nodes", "emit", "disconnect", "tail"])
@pytest.mark.parametrize(("login", "told"), [("", "wants a password"), (":no@", "WRONGPASS")])
async def test_every_command_tells_the_cure_of_a_login_that_is_refused(
    locked_redis_server: RedisServer, command: str, login: str, told: str
) -> None:
    url = f"redis://{login}{locked_redis_server.host}:{locked_redis_server.port}"
    arguments = {"emit": ["tea", "hello"], "disconnect": ["tea"], "tail": ["tea"]}
    done = await run(command, *arguments.get(command, []), url=url)
    assert (done.code, done.out) == (1, "")
    assert told in done.err
    assert "percent-encoded: redis://" in done.err


async def test_what_is_no_text_is_not_sent(url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "fastapi_rooms.cli", "emit", "tea", "-", "--url", url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=b"\xff",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"fastapi-rooms: The message is not UTF-8 text.\n"


async def test_disconnect_can_be_told_not_to_ask(workers: Cluster, url: str) -> None:
    members = [await workers.member(worker, "tea") for worker in workers]
    assert (await run("disconnect", "tea", "--yes", url=url)).json == {"disconnected": 2}
    assert [await member.wait_closed() for member in members] == [1000, 1000]


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
    tail = asyncio.ensure_future(at_a_terminal("tail", "tea", "--count", "2", url=own_redis.url))
    await eventually(lambda: own_redis.numsub("rooms#/#tea#") == 1)
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


def test_the_program_tells_its_version_and_how_to_use_it() -> None:
    assert completed("--version").stdout.strip() == __version__
    for arguments in ([], ["emit", "--help"], ["tail", "-h"]):
        done = completed(*arguments)
        assert "Usage: fastapi-rooms" in done.stdout + done.stderr
        assert done.returncode == (0 if arguments else 2)


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
