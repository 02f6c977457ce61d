"""`emit`, `tail` and `disconnect`, beside workers in this process and a real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import RedisAdapter
from fastapi_rooms.cli import app as app_module
from fastapi_rooms.testing import Cluster, RedisServer, eventually
from tests.integration.terminal import (
    ROOT,
    Output,
    at_a_terminal,
    program,
    run,
    tailing,
    tailing_at_a_terminal,
)


@pytest.fixture
async def workers(own_redis: RedisServer) -> AsyncIterator[Cluster]:
    async with Cluster(2, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        yield cluster


@pytest.fixture
def url(own_redis: RedisServer, workers: Cluster) -> str:
    return own_redis.url


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
        assert tail.stdout is not None
        first = asyncio.ensure_future(tail.stdout.readline())
        while not first.done():  # it listens a moment after Redis says so
            await workers[0].to("tea").send_text("hel\nlo")
            await asyncio.wait((first,), timeout=5)
        await workers[0].to("milk").send_bytes(b"\x00\xff")
        await workers[0].to("tea", "milk").send_json({})
        rest, _ = await tail.communicate()
    assert [json.loads(line) for line in (await first + rest).splitlines()] == [
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
    both = await tailing("tea", "--everyone", "--count", "2", url=own_redis.url)
    person = await tailing_at_a_terminal("--everyone", "--count", "1", url=own_redis.url)
    assert own_redis.numsub("rooms#/#tea#") == 1
    assert own_redis.numsub("rooms#/#") == 2
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
