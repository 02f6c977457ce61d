"""Emitters and three workers that know nothing of them, on every kind of carrier.

What differs between the ways to Redis is how a message gets there. What it says and does is made
before that, the same for all; so the verbs are tried on one Redis and on a cluster only.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import redis.asyncio

from fastapi_rooms import (
    Adapter,
    AsyncEmitter,
    Emitter,
    RabbitMQAdapter,
    RedisAdapter,
    RedisClusterAdapter,
)
from fastapi_rooms.testing import (
    Cluster,
    RabbitMQServer,
    RedisCluster,
    RedisServer,
    SentinelServers,
    eventually,
)
from tests.conformance.backplanes import nobody_is_slow_to_greet, slots_are_at_rest
from tests.emitters import AnyEmitter, done


class Way(NamedTuple):
    """A way for emitters to Redis, and the workers that meet in the same Redis."""

    adapter: Callable[[], Adapter]
    sync: Callable[..., Emitter]
    async_: Callable[..., AsyncEmitter]


def by_url(adapter: type[RedisAdapter | RedisClusterAdapter], url: str) -> Way:
    return Way(lambda: adapter(url), partial(Emitter, url), partial(AsyncEmitter, url))


WAYS: dict[str, Callable[[Callable[[str], Any]], Way]] = {
    "url": lambda get: by_url(RedisAdapter, get("redis_server").url),
    "RESP2": lambda get: by_url(RedisAdapter, f"{get('redis_server').url}?protocol=2"),
    "RESP3": lambda get: by_url(RedisAdapter, f"{get('redis_server').url}?protocol=3"),
    "unix socket": lambda get: by_url(RedisAdapter, get("redis_server").unix_url),
    "TLS": lambda get: by_url(RedisAdapter, get("redis_server").tls_url),
    "password": lambda get: by_url(RedisAdapter, get("locked_redis_server").url),
    "sentinel": lambda get: by_url(RedisAdapter, get("sentinel_servers").url),
    "cluster": lambda get: by_url(RedisClusterAdapter, get("redis_cluster").url),
    "RabbitMQ": lambda get: by_rabbitmq(get("rabbitmq_server"), get("rabbitmq_vhost")),
    "own client": lambda get: with_clients(get("redis_server")),
    "own cluster client": lambda get: with_cluster_clients(get("redis_cluster")),
}


def by_rabbitmq(server: RabbitMQServer, vhost: str) -> Way:
    url = server.url_of(server.host, server.port, vhost=vhost)
    return Way(lambda: RabbitMQAdapter(url), partial(Emitter, url), partial(AsyncEmitter, url))


def with_clients(server: RedisServer) -> Way:
    def sync(**settings: Any) -> Emitter:
        return Emitter(redis.Redis.from_url(server.url, decode_responses=True), **settings)

    def async_(**settings: Any) -> AsyncEmitter:
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True)
        return AsyncEmitter(client, **settings)

    return Way(lambda: RedisAdapter(server.url), sync, async_)


def with_cluster_clients(cluster: RedisCluster) -> Way:
    url = cluster.nodes[0].url

    def sync(**settings: Any) -> Emitter:
        client: redis.RedisCluster = redis.RedisCluster.from_url(url)
        return Emitter(client, **settings)

    def async_(**settings: Any) -> AsyncEmitter:
        return AsyncEmitter(redis.asyncio.RedisCluster.from_url(url), **settings)

    return Way(lambda: RedisClusterAdapter(cluster.url), sync, async_)


async def close(emitter: AnyEmitter) -> None:
    """Close it, and the client that it was given."""
    client: Any = emitter._access.open() if not emitter._access.owned else None
    await done(emitter.close())
    if client is not None:
        await done(client.close() if isinstance(emitter, Emitter) else client.aclose())


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    if "cluster" in request.param:
        slots_are_at_rest(monkeypatch)
    if request.param == "RabbitMQ":
        nobody_is_slow_to_greet(monkeypatch)
    return WAYS[request.param](request.getfixturevalue)


every_kind_of_channel = pytest.mark.parametrize("way", ["url", "cluster"], indirect=True)


@pytest.fixture
async def workers(way: Way) -> AsyncIterator[Cluster]:
    async with Cluster(3, adapter=way.adapter) as cluster:
        yield cluster


@pytest.fixture(params=["blocking", "awaited"])
async def emitter(request: pytest.FixtureRequest, way: Way) -> AsyncIterator[AnyEmitter]:
    emitter = way.sync() if request.param == "blocking" else way.async_()
    yield emitter
    await close(emitter)


class TestEveryWay:
    """What must hold by whatever way an emitter comes to Redis."""

    async def test_text_bytes_and_json_reach_the_room_on_all_workers(
        self, workers: Cluster, emitter: AnyEmitter
    ) -> None:
        members = [await workers.member(worker, "tea") for worker in workers]
        stranger = await workers.member(workers[0], "coffee")
        await done(emitter.to("tea").send_text("täxt"))
        await done(emitter.to("tea").send_bytes(b"\x00\xff"))
        await done(emitter.to("tea").send_json({"a": [1, None]}))
        await done(emitter.send_text("all"))
        for member in members:
            assert [await member.receive() for _ in range(4)] == [
                "täxt", b"\x00\xff", '{"a":[1,null]}', "all",
            ]  # fmt: skip
        assert await stranger.receive() == "all"

    async def test_the_prefix_is_that_of_the_workers(
        self, workers: Cluster, emitter: AnyEmitter, way: Way
    ) -> None:
        member = await workers.member(workers[0], "tea")
        elsewhere = (way.sync if isinstance(emitter, Emitter) else way.async_)(prefix="elsewhere")
        await done(elsewhere.to("tea").send_text("not here"))
        await done(elsewhere.server_side_emit("not here"))
        await done(emitter.to("tea").send_text("here"))
        assert await member.receive() == "here"
        await close(elsewhere)


@every_kind_of_channel
class TestEveryVerb:
    """What an emitter can have done, on a Redis and on a cluster."""

    async def test_to_except_and_of_choose_the_sockets(
        self, workers: Cluster, emitter: AnyEmitter
    ) -> None:
        one, two, three = workers
        ann = await workers.member(one, "tea", "coffee")
        bob = await workers.member(two, "tea", "muted")
        eve = await workers.member(three, "coffee")
        eve_in_chat = await workers.member(three.of("/chat"), "tea")
        await done(emitter.to("tea").to("coffee").except_("muted").send_text("1"))
        await done(emitter.of("chat").to("tea").send_text("2"))
        await done(emitter.to(bob.sid).send_text("3"))
        await done(emitter.except_(eve.sid).send_text("4"))
        await done(emitter.to().send_text("nobody"))
        await done(emitter.send_text("last"))
        await done(emitter.of("/chat").send_text("last"))
        # A cluster keeps no order among the messages to different rooms.
        for member, expected in ((ann, "14"), (bob, "34"), (eve, "1"), (eve_in_chat, "2")):
            heard = [str(await member.receive()) for _ in (*expected, "last")]
            assert sorted(heard) == [*expected, "last"]
            assert member.unread == []

    async def test_sockets_join_leave_and_are_disconnected_on_all_workers(
        self, workers: Cluster, emitter: AnyEmitter
    ) -> None:
        members = [await workers.member(worker, "tea") for worker in workers]
        bystander = await workers.member(workers[0], "coffee")
        await done(emitter.to("tea").sockets_join("kitchen", "garden"))
        await eventually(lambda: all(len(w.rooms.get("kitchen", ())) == 1 for w in workers))
        await done(emitter.to("kitchen").sockets_leave("garden", "tea"))
        await eventually(lambda: not any("garden" in w.rooms or "tea" in w.rooms for w in workers))
        await done(emitter.to("kitchen").disconnect_sockets(4000, "closing time"))
        assert [await member.wait_closed() for member in members] == [4000] * 3
        assert set(workers[0].rooms) == {"coffee", bystander.sid}

    async def test_server_side_events_reach_all_workers(
        self, workers: Cluster, emitter: AnyEmitter
    ) -> None:
        heard: list[tuple[int, str, list[int]]] = []
        for number, worker in enumerate(workers):

            @worker.of("/chat").on_server_side("reload")
            def reload(what: str, which: list[int], number: int = number) -> None:
                heard.append((number, what, which))

        await done(emitter.of("/chat").server_side_emit("reload", "rules", [1, 2]))
        await eventually(lambda: len(heard) == 3)
        assert sorted(heard) == [(number, "rules", [1, 2]) for number in range(3)]


# What has to hold on one Redis as on any other.


@pytest.fixture
async def pair(redis_server: RedisServer) -> AsyncIterator[Cluster]:
    async with Cluster(2, adapter=lambda: RedisAdapter(redis_server.url)) as cluster:
        yield cluster


async def test_what_one_emitter_sends_arrives_in_order(
    pair: Cluster, redis_server: RedisServer
) -> None:
    member = await pair.member(pair[0], "tea")
    async with AsyncEmitter(redis_server.url) as emitter:
        room = emitter.to("tea")
        await asyncio.gather(*(room.send_text(str(n)) for n in range(300)))
        await room.send_text("last")
    assert await member.receive_until("last") == [*map(str, range(300))]


async def test_threads_share_an_emitter_and_nothing_is_lost(
    pair: Cluster, redis_server: RedisServer
) -> None:
    members = [await pair.member(worker, "tea") for worker in pair]
    with Emitter(redis_server.url) as emitter:

        def send(name: str) -> None:
            for number in range(200):
                emitter.to("tea").send_json([name, number])

        threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        emitter.to("tea").send_json("last")
    for member in members:
        heard = await member.receive_until('"last"')
        assert len(heard) == 800
        for name in "abcd":
            mine = [message for message in heard if isinstance(message, str) and name in message]
            assert mine == [f'["{name}",{number}]' for number in range(200)]


SCRIPT = """
import asyncio, sys
from fastapi_rooms import AsyncEmitter, Emitter
with Emitter(sys.argv[1]) as emitter:
    emitter.to("tea").send_text("blocking")
async def main():
    async with shared:
        await shared.to("tea").send_text("awaited")
shared = AsyncEmitter(sys.argv[1])
asyncio.run(main())
"""

FORK = """
import multiprocessing, sys
from fastapi_rooms import Emitter
emitter = Emitter(sys.argv[1])
def child():
    emitter.to("tea").send_text("child")
    emitter.close()
emitter.to("tea").send_text("parent 1")
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
emitter.to("tea").send_text("parent 2")
sys.exit(process.exitcode)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [(SCRIPT, ["blocking", "awaited"]), (FORK, ["parent 1", "child", "parent 2"])],
    ids=["plain", "forking"],
)
async def test_a_script_sends_to_workers(
    script: str, said: list[str], pair: Cluster, redis_server: RedisServer
) -> None:
    member = await pair.member(pair[1], "tea")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, redis_server.url],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [await member.receive() for _ in said] == said


async def test_one_async_emitter_serves_one_event_loop_after_another(
    pair: Cluster, redis_server: RedisServer
) -> None:
    member = await pair.member(pair[0], "tea")
    emitter = AsyncEmitter(redis_server.url)

    async def send(text: str) -> None:
        async with emitter:
            await emitter.to("tea").send_text(text)

    for text in ("one", "two"):
        await asyncio.to_thread(asyncio.run, send(text))
    assert [await member.receive() for _ in "12"] == ["one", "two"]


async def test_a_closed_emitter_leaves_no_connection_and_can_be_used_again(
    own_redis: RedisServer,
) -> None:
    for emitter in (Emitter(own_redis.url), AsyncEmitter(own_redis.url)):
        await done(emitter.close())
        for _ in range(2):
            await done(emitter.send_text("hello"))
            assert len(own_redis.connections()) == 1
            await done(emitter.close())
            await eventually(lambda: not own_redis.connections())


async def test_a_closed_emitter_leaves_no_connection_to_sentinels(
    sentinel_servers: SentinelServers,
) -> None:
    for emitter in (Emitter(sentinel_servers.url), AsyncEmitter(sentinel_servers.url)):
        await done(emitter.send_text("hello"))
        await done(emitter.close())
        await eventually(lambda: not sentinel_servers.connections())


async def test_a_client_of_ones_own_stays_open(own_redis: RedisServer) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        with Emitter(client) as emitter:
            emitter.send_text("hello")
        assert len(own_redis.connections()) == 1
    async with AsyncExitStack() as stack:
        await eventually(lambda: not own_redis.connections())
        other = redis.asyncio.Redis.from_url(own_redis.url)
        stack.push_async_callback(other.aclose)
        async with AsyncEmitter(other) as async_emitter:
            await async_emitter.send_text("hello")
        assert len(own_redis.connections()) == 1
