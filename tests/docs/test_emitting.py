"""The scripts that send from elsewhere, run beside a worker that delivers."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py

from fastapi_rooms import (
    AsyncEmitter,
    Emitter,
    PresentUser,
    RedisAdapter,
    RedisClusterAdapter,
    RoomManager,
)
from fastapi_rooms.testing import Cluster, Member, RedisCluster, RedisServer
from tests.docs.conftest import AllowOnCluster, as_user, write_files
from tests.docs.pages import ROOT, blocks, files_of
from tests.emitters import AnyEmitter, answered, done

PAGE = "docs/howto/emitting.md"


@pytest.fixture
def directory(tmp_path: Path, own_redis: RedisServer) -> Path:
    write_files(tmp_path, files_of(PAGE), own_redis)
    return tmp_path


async def run(directory: Path, *arguments: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


async def test_the_script_for_cron_closes_the_bar(directory: Path, own_redis: RedisServer) -> None:
    async with Cluster(1, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        (rooms,) = cluster
        guest = await cluster.member(rooms.of("/bar"))
        waiter = await cluster.member(rooms.of("/bar"), "staff")
        elsewhere = await cluster.member(rooms)
        await run(directory, "closing_time.py")
        assert await guest.receive() == "We are closing."
        assert await guest.wait_closed() == 4000
        assert await waiter.receive() == "We are closing."
        assert (waiter.close_code, elsewhere.close_code, elsewhere.unread) == (None, None, [])


async def test_the_script_with_asyncio_reports(directory: Path, own_redis: RedisServer) -> None:
    async with Cluster(1, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        member = await cluster.member(cluster[0], "tea")
        await run(directory, "watch.py")
        assert [await member.receive_json() for _ in "123"] == [
            {"degrees": degrees} for degrees in (80, 90, 100)
        ]


def rule_with(right: str) -> list[str]:
    (block,) = [b for b in blocks("text", page=PAGE) if right in b.code.split()]
    return shlex.split(block.code)


async def test_the_acl_rule_shown_is_enough_and_no_more(own_redis: RedisServer) -> None:
    own_redis.command(*rule_with("+publish"))
    url = as_user(own_redis.url, "emitter")
    async with Cluster(1, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        member = await cluster.member(cluster[0], "tea")
        with Emitter(url) as emitter:
            emitter.to("tea").send_text("hello")
        assert await member.receive() == "hello"
    with redis_py.Redis.from_url(url) as client:
        for command in ("GET rooms", "PUBLISH other hello", "SUBSCRIBE rooms#/#"):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                client.execute_command(*command.split())


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
async def test_the_acl_rule_shown_for_histories_is_enough(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    own_redis.command(*rule_with("+publish"))
    own_redis.command(*rule_with("+evalsha"))
    rooms = RoomManager(own_redis.url)
    rooms.history("tea")
    async with rooms:
        emitter = kind(as_user(own_redis.url, "emitter"))
        await done(emitter.to("tea").send_text("hello"))
        await done(emitter.close())
        assert [message.text for message in await rooms.recent("tea")] == ["hello"]


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
async def test_the_acl_rule_shown_for_presence_is_enough_and_no_more(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    own_redis.command(*rule_with("+publish"))
    own_redis.command(*rule_with("+hscan"))
    url = as_user(own_redis.url, "emitter")
    rooms = RoomManager(own_redis.url)
    rooms.presence("tea", user="name")
    async with rooms, Member(rooms, "tea", data={"name": "ann"}) as ann:
        emitter = kind(url)
        presence = emitter.presence
        assert (await answered(presence.users("tea"))).users == (PresentUser("ann", (ann.sid,)),)
        assert await answered(presence.count("tea")) == 1
        assert await answered(presence.is_present("ann", "tea"))
        assert await answered(presence.rooms("ann")) == {"tea"}
        await done(emitter.close())
    with redis_py.Redis.from_url(url) as client:
        for command in (
            "HSET rooms:presence:{/#tea} n 5",
            "HSET rooms:declared x 1",
            "HGET rooms:meta x",
        ):
            with pytest.raises(redis_py.exceptions.NoPermissionError):
                client.execute_command(*command.split())


async def test_the_acl_rule_shown_for_a_cluster_is_enough(
    redis_cluster: RedisCluster, allow_on_cluster: AllowOnCluster
) -> None:
    url = allow_on_cluster(rule_with("+spublish"))
    async with (
        Cluster(1, adapter=lambda: RedisClusterAdapter(redis_cluster.url)) as cluster,
        AsyncEmitter(url) as async_emitter,
    ):
        member = await cluster.member(cluster[0], "tea", "coffee", "water")
        with Emitter(url) as emitter:
            for room in ("tea", "coffee", "water"):
                emitter.to(room).send_text(room)
                await async_emitter.to(room).send_text(room)
        heard = [await member.receive_text() for _ in range(6)]
        assert sorted(heard) == ["coffee", "coffee", "tea", "tea", "water", "water"]
