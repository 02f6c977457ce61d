"""What the page of the command line shows is what its commands write."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import RedisAdapter, RoomManager
from fastapi_rooms.testing import Cluster, Member, RedisServer, eventually
from tests.docs.conftest import REDIS, with_rabbitmq
from tests.docs.pages import ROOT, Block, blocks
from tests.integration.terminal import at_a_terminal, run, tailing, tailing_at_a_terminal

PAGE = "docs/reference/cli.md"


@pytest.fixture
async def workers(own_redis: RedisServer) -> AsyncIterator[Cluster]:
    """Ann, who is on the worker that is listed first, and Bob."""
    async with Cluster(2, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        first, second = sorted(cluster, key=node_of)
        await cluster.member(first, "tea", "kitchen", data={"user": "ann"})
        await cluster.member(second, "tea", data={"user": "bob"})
        yield cluster


def node_of(worker: RoomManager) -> str:
    return worker._runtime.run.node


def shown(command: str) -> Block:
    (block,) = [b for b in blocks("text", "json", page=PAGE) if b.title == command]
    return block


def words_of(command: str) -> list[str]:
    return shlex.split(command)[1:]


def without_ids(text: str) -> list[str]:
    """The lines, with every id replaced, and without what cannot be seen."""
    text = re.sub(r"[0-9a-f]{16}\.[\w-]{16}", "S" * 33, text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "N" * 16, text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "N" * 8, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("command", ["fastapi-rooms rooms", "fastapi-rooms sockets tea"])
async def test_tables(command: str, workers: Cluster, own_redis: RedisServer) -> None:
    done = await at_a_terminal(*words_of(command), url=own_redis.url)
    assert without_ids(done.out) == without_ids(shown(command).code)


async def test_the_table_of_nodes(workers: Cluster, own_redis: RedisServer) -> None:
    done = await at_a_terminal("nodes", url=own_redis.url)
    ours, theirs = without_ids(done.out), without_ids(shown("fastapi-rooms nodes").code)
    assert ours[0].split() == theirs[0].split()
    assert len(ours) == len(theirs)
    assert [line.split()[:2] for line in ours[2:]] == [line.split()[:2] for line in theirs[2:]]


async def test_json(workers: Cluster, own_redis: RedisServer) -> None:
    command = "fastapi-rooms sockets tea --json"
    done = await at_a_terminal(*words_of(command), url=own_redis.url)
    (theirs,) = json.loads(shown(command).code)
    ours = done.json[0]
    assert ours["sid"] in ours["rooms"]
    for socket in (ours, theirs):
        socket["rooms"] = sorted(set(socket["rooms"]) - {socket["sid"]})
        assert socket.pop("sid").startswith(socket.pop("node"))
    assert ours == theirs


async def test_what_tail_writes(workers: Cluster, own_redis: RedisServer) -> None:
    messages: list[Any] = ["The kettle is on", '{"degrees":90}', b"\x00\xff"]
    for command in ("fastapi-rooms tail tea", "fastapi-rooms tail tea --json"):
        lines = shown(command).code.splitlines()
        before = own_redis.numsub("rooms#/#tea#")
        words = (*words_of(command)[1:], "--count", str(len(lines)))
        begin = tailing if "--json" in words else tailing_at_a_terminal
        tail = await begin(*words, url=own_redis.url)
        for message in messages[: len(lines)]:
            room = workers[0].to("tea")
            await (room.send_text if isinstance(message, str) else room.send_bytes)(message)
        assert (await tail).out.splitlines() == lines
        await eventually(lambda: own_redis.numsub("rooms#/#tea#") == before)  # noqa: B023


@pytest.fixture
async def chat(own_redis: RedisServer) -> RoomManager:
    """A worker, not running now, that has declared a history, in which two messages are."""
    rooms = RoomManager(own_redis.url)
    rooms.history("chat-*")
    async with rooms:
        for text in ("The kettle is on", '{"degrees":90}'):
            await rooms.to("chat-tea").send_text(text)
    return rooms


@pytest.mark.parametrize(
    "command",
    ["fastapi-rooms history chat-tea", "fastapi-rooms history chat-tea --limit 1 --json"],
)
async def test_what_history_writes(command: str, chat: RoomManager, own_redis: RedisServer) -> None:
    done = await at_a_terminal(*words_of(command), url=own_redis.url)
    position = re.compile(r"[0-9a-f]{16}\.\d+\.[0-9a-f]{16}")
    assert len(position.findall(done.out)) == len(shown(command).code.splitlines())
    ours, theirs = (position.sub("P", text) for text in (done.out, shown(command).code))
    assert ours.splitlines() == theirs.splitlines()


@pytest.fixture
async def present(own_redis: RedisServer) -> AsyncIterator[None]:
    """Ann and Bob, present in a room."""
    rooms = RoomManager(own_redis.url)
    rooms.presence("chat-*", user="user")
    async with (
        rooms,
        Member(rooms, "chat-tea", data={"user": "ann"}),
        Member(rooms, "chat-tea", data={"user": "bob"}),
    ):
        yield


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("options", ["", " --json"])
async def test_what_who_writes(options: str, own_redis: RedisServer) -> None:
    command = f"fastapi-rooms who chat-tea{options}"
    done = await at_a_terminal(*words_of(command), url=own_redis.url)
    assert without_ids(done.out) == without_ids(shown(command).code)


async def test_what_doctor_writes(workers: Cluster, own_redis: RedisServer) -> None:
    command = "fastapi-rooms doctor"
    done = await at_a_terminal("doctor", url=own_redis.url)
    assert without_numbers(done.out) == without_numbers(shown(command).code)


def without_numbers(text: str) -> str:
    return re.sub(r"[\d.]+", "N", text)


SHOWN = dict.fromkeys(
    line
    for block in blocks("sh")
    for line in block.code.splitlines()
    if "fastapi-rooms " in line and not line.startswith("pip")
)
SERVING = [line for line in SHOWN if re.match("fastapi-rooms (edge|backend) ", line)]
COMMANDS = [line for line in SHOWN if line not in SERVING]


@pytest.mark.parametrize("line", COMMANDS)
async def test_commands_in_shell_blocks_run(
    line: str,
    chat: RoomManager,
    workers: Cluster,
    own_redis: RedisServer,
    request: pytest.FixtureRequest,
) -> None:
    program = f'fastapi-rooms() {{ "{sys.executable}" -m fastapi_rooms.cli "$@"; }}\n'
    done = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", program + with_rabbitmq(line, request).replace(REDIS, own_redis.url)],
        env={**os.environ, "ROOMS_URL": own_redis.url, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", SERVING)
async def test_commands_that_serve_have_the_options_that_are_shown(line: str) -> None:
    done = await run(*words_of(line), "--help")  # which finds out first what it does not know
    assert (done.code, done.err) == (0, "")


def test_there_are_commands_in_shell_blocks() -> None:
    assert len(COMMANDS) >= 7
    assert len(SERVING) >= 2
