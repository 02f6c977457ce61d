"""The conformance suite, bound to Redis in every way it can be reached, and what is Redis' own.

Unix sockets, TLS, a client of one's own and both protocols are ways to the same stream of bytes,
and only an adapter could tell them apart: so the adapters' suite runs on each. A manager sees an
adapter and nothing behind it. Its suite runs once on each of the protocols, of which one on a Redis
with a password, by a prefix that looks like a pattern; that managers get along whatever their
adapters' way is, is tested here, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio import Redis

from fastapi_rooms import RedisAdapter, RoomManager
from fastapi_rooms.testing import Cluster, Member, RedisServer, eventually
from fastapi_rooms.testing.suite import AdapterSuite, Backplane, ManagerSuite
from fastapi_rooms.testing.suite.backplane import Station
from tests.conformance.backplanes import ServerBackplane, left_clean
from tests.conformance.silence import SilenceSuite

MakeAdapter = Callable[[RedisServer], RedisAdapter]


def own_client(server: RedisServer) -> RedisAdapter:
    return RedisAdapter(Redis.from_url(server.url, decode_responses=True, db=3))


VARIANTS: dict[str, MakeAdapter] = {
    "url": lambda server: RedisAdapter(server.url),
    "own client": own_client,
    "RESP2": lambda server: RedisAdapter(f"{server.url}?protocol=2"),
    "RESP3": lambda server: RedisAdapter(f"{server.url}?protocol=3"),
    "unix socket": lambda server: RedisAdapter(server.unix_url),
    "TLS": lambda server: RedisAdapter(server.tls_url),
}


@pytest.fixture
async def backplane(redis_server: RedisServer) -> AsyncIterator[Backplane]:
    yield ServerBackplane(redis_server, VARIANTS["RESP3"])
    await left_clean(redis_server)


class TestRedisAdapter(AdapterSuite):
    """Adapters on one Redis, which each kind reaches in its way."""

    @pytest.fixture(params=VARIANTS)
    async def backplane(
        self, request: pytest.FixtureRequest, redis_server: RedisServer
    ) -> AsyncIterator[Backplane]:
        yield ServerBackplane(redis_server, VARIANTS[request.param])
        await left_clean(redis_server)


class TestRedisManager(ManagerSuite):
    """Managers on one Redis."""


class TestRedisSilence(SilenceSuite):
    """Workers that do not answer, on one Redis."""


class TestRedisWithPasswordAndPrefix(AdapterSuite, ManagerSuite):
    """The same on a Redis that wants a password and is shared with other applications."""

    @pytest.fixture
    async def backplane(self, locked_redis_server: RedisServer) -> AsyncIterator[Backplane]:
        server = locked_redis_server
        yield ServerBackplane(
            server, lambda s: RedisAdapter(f"{s.url}?protocol=2", prefix="app*[1] ü")
        )
        await left_clean(server)


class TestRedisItself:
    """What Redis is asked for, and what it keeps."""

    async def test_channels_have_the_documented_names(self, redis_server: RedisServer) -> None:
        one, two = RoomManager(redis_server.url), RoomManager(redis_server.url)
        async with (
            one,
            two,
            Member(one, "lobby"),
            Member(two, "lobby"),
            Member(two.of("/chat"), "lobby"),
        ):
            assert redis_server.numsub("rooms#/#lobby#") == 2
            assert redis_server.numsub("rooms#/#") == 2
            assert redis_server.numsub("rooms#/chat#lobby#") == 1
            assert redis_server.numsub("rooms#/chat#") == 1
            assert all(channel.startswith(b"rooms#") for channel in redis_server.channels())

    async def test_anyone_can_watch_by_a_pattern(self, redis_server: RedisServer) -> None:
        async with RoomManager(redis_server.url) as rooms:
            with redis_server.admin.pubsub() as watcher:  # type: ignore[no-untyped-call]
                watcher.psubscribe("rooms#*")
                assert watcher.get_message(timeout=5)["type"] == "psubscribe"
                await rooms.to("lobby").send_text("hello watcher")
                while (message := watcher.get_message(timeout=5)) is not None:
                    if message["type"] == "pmessage" and message["channel"] == b"rooms#/#lobby#":
                        break
                assert message is not None
                assert message["data"].endswith(b"hello watcher")

    async def test_who_watches_by_a_pattern_is_taken_for_no_worker(
        self, redis_server: RedisServer
    ) -> None:
        one, adapter = RoomManager(redis_server.url), RedisAdapter(redis_server.url)
        dead = RoomManager(adapter)
        with redis_server.admin.pubsub() as watcher:  # type: ignore[no-untyped-call]
            watcher.psubscribe("rooms#*")
            assert watcher.get_message(timeout=5)["type"] == "psubscribe"
            async with one, Member(one, "lobby"):
                async with dead, Member(dead, "lobby"):
                    assert await one.count(timeout=60) == 2
                    await adapter.close()  # without a word
                    assert await one.count(timeout=60) == 1
                assert await one.count(timeout=60) == 1

    async def test_redis_keeps_no_key(self, redis_server: RedisServer) -> None:
        async with RoomManager(redis_server.url) as rooms, Member(rooms, "lobby", sid="ann"):
            await rooms.to("lobby").send_text("hello")
            await rooms.to("ann").send_text("hello")
            async with rooms.listen("news"):
                assert "db0" not in redis_server.admin.info("keyspace")  # Celery has db1

    async def test_a_worker_has_two_connections_however_many_sockets(
        self, redis_server: RedisServer
    ) -> None:
        async with Cluster(1, adapter=lambda: RedisAdapter(redis_server.url)) as cluster:
            for number in range(50):
                await cluster.member(cluster[0], f"room {number}")
            await asyncio.gather(*(cluster[0].send_text("hello") for _ in range(200)))
            assert len(redis_server.connections()) == 2
            assert len(redis_server.connections("pubsub")) == 1

    async def test_a_connecting_socket_asks_redis_for_nothing(
        self, redis_server: RedisServer
    ) -> None:
        async with Cluster(1, adapter=lambda: RedisAdapter(redis_server.url)) as cluster:
            await cluster.member(cluster[0], "lobby")
            before = redis_server.calls("subscribe"), redis_server.calls("unsubscribe")
            members = [await cluster.member(cluster[0], "lobby") for _ in range(100)]
            await asyncio.gather(*(member.close() for member in members))
            after = redis_server.calls("subscribe"), redis_server.calls("unsubscribe")
            assert after == before

    async def test_joins_of_one_turn_are_few_commands(self, redis_server: RedisServer) -> None:
        async with Cluster(1, adapter=lambda: RedisAdapter(redis_server.url)) as cluster:
            member = await cluster.member(cluster[0])
            before = redis_server.calls("subscribe")
            await asyncio.gather(*(member.socket.join(f"room {n}") for n in range(1000)))
            assert redis_server.calls("subscribe") - before <= 2
            assert len(redis_server.channels()) >= 1000

    async def test_a_room_rejoined_within_its_linger_is_no_command(
        self, redis_server: RedisServer
    ) -> None:
        async with Cluster(1, adapter=lambda: RedisAdapter(redis_server.url), linger=60) as cluster:
            member = await cluster.member(cluster[0], "lobby")
            before = redis_server.calls("subscribe"), redis_server.calls("unsubscribe")
            for _ in range(100):
                await member.socket.leave("lobby")
                await member.socket.join("lobby")
            after = redis_server.calls("subscribe"), redis_server.calls("unsubscribe")
            assert after == before

    async def test_publishes_of_one_turn_travel_together(self, redis_server: RedisServer) -> None:
        async with RoomManager(redis_server.url) as rooms:
            await rooms.to("lobby").send_text("first")
            before = reads(redis_server)
            await asyncio.gather(*(rooms.to("lobby").send_text(f"{n}") for n in range(100)))
            assert reads(redis_server) - before <= 5

    async def test_workers_of_every_kind_of_connection_hear_each_other(
        self, redis_server: RedisServer
    ) -> None:
        kinds = iter(VARIANTS.values())
        async with Cluster(len(VARIANTS), adapter=lambda: next(kinds)(redis_server)) as cluster:
            members = [await cluster.member(worker, "lobby") for worker in cluster]
            for number, worker in enumerate(cluster):
                await worker.to("lobby").send_text(str(number))
                assert {await member.receive_text() for member in members} == {str(number)}

    async def test_applications_with_different_prefixes_do_not_meet(
        self, redis_server: RedisServer
    ) -> None:
        shop = RoomManager(redis_server.url, prefix="shop")
        other = RoomManager(redis_server.url, prefix="shop2")
        async with shop, other, Member(shop, "lobby") as here, Member(other, "lobby") as there:
            await shop.to("lobby").send_text("in the shop")
            await shop.send_text("to all in the shop")
            await other.to("lobby").send_text("in the other")
            assert await there.receive_text() == "in the other"
            assert await here.receive_text() == "in the shop"
            await other.to(there.sid).send_text("last")
            assert await there.receive_until("last") == []

    async def test_a_client_of_ones_own_is_left_alone(self, redis_server: RedisServer) -> None:
        client = Redis.from_url(
            redis_server.url, decode_responses=True, max_connections=1, client_name="mine"
        )
        async with client:
            async with RoomManager(RedisAdapter(client)) as rooms, Member(rooms, "lobby"):
                await rooms.to("lobby").send_text("hello")
                assert await client.ping()  # the one connection of its pool is still free for it
                assert len(redis_server.connections()) == 3
            assert await client.echo("still open") == "still open"


def reads(server: RedisServer) -> int:
    """How many times Redis has read from a connection."""
    return int(server.admin.info("stats")["total_reads_processed"])


async def test_it_can_be_started_again_while_another_close_is_under_way(
    own_redis: RedisServer,
) -> None:
    adapter = RedisAdapter(own_redis.url)
    receiver = Station(adapter)
    await receiver.start(b"before")

    async def restart() -> None:
        await adapter.close()
        await receiver.start(b"after")

    await asyncio.gather(restart(), adapter.close())
    assert adapter.health.connected
    assert await adapter.publish(b"after", b"hello") == 0
    await eventually(lambda: receiver.heard(b"after") == [b"hello"])
    await adapter.close()
    await eventually(lambda: not own_redis.connections())
