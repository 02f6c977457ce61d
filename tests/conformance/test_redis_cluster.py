"""The conformance suite, bound to a Redis Cluster, and what is the cluster's own.

Order across channels holds within a slot only. So the managers' suite, whose tests compare what
comes on different channels, runs on one slot, with a prefix in braces; the adapters' suite, which
knows how far order is promised, runs over all three nodes, and so does what is written here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis.asyncio.cluster import RedisCluster as Client

from fastapi_rooms import RedisClusterAdapter, RoomManager
from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.sharded import node_pool
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.core.names import Channels
from fastapi_rooms.testing import Certificates, Cluster, Member, RedisCluster
from fastapi_rooms.testing.suite import AdapterSuite, Backplane, HistorySuite, ManagerSuite
from tests.conformance.backplanes import ServerBackplane, left_clean, slots_are_at_rest
from tests.conformance.silence import SilenceSuite, mute_worker

MakeAdapter = Callable[[RedisCluster], RedisClusterAdapter]


def own_client(cluster: RedisCluster) -> RedisClusterAdapter:
    return RedisClusterAdapter(Client.from_url(cluster.nodes[1].url, decode_responses=True))


VARIANTS: dict[str, MakeAdapter] = {
    "RESP2": lambda cluster: RedisClusterAdapter(f"{cluster.url}?protocol=2"),
    "RESP3": lambda cluster: RedisClusterAdapter(f"{cluster.url}?protocol=3"),
    "own client": own_client,
}


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot moves here, and workers know it."""
    slots_are_at_rest(monkeypatch)


@pytest.mark.usefixtures("at_rest")
class TestRedisClusterAdapter(AdapterSuite):
    """Adapters on three nodes, reached in every way."""

    @pytest.fixture(params=VARIANTS)
    async def backplane(
        self, request: pytest.FixtureRequest, redis_cluster: RedisCluster
    ) -> AsyncIterator[Backplane]:
        yield ServerBackplane(redis_cluster, VARIANTS[request.param])
        await left_clean(redis_cluster)


class KeepingBackplane(ServerBackplane[RedisCluster]):
    """Three nodes that keep messages, whose connections can be broken."""

    async def break_connections(self) -> None:
        for node in self._servers.nodes:
            node.kill_connections("normal")
            node.kill_connections("pubsub")


@pytest.mark.usefixtures("at_rest")
class TestRedisClusterHistory(HistorySuite):
    """The messages that three nodes keep."""

    @pytest.fixture(params=["RESP2", "RESP3"])
    async def backplane(
        self, request: pytest.FixtureRequest, redis_cluster: RedisCluster
    ) -> AsyncIterator[Backplane]:
        yield KeepingBackplane(redis_cluster, VARIANTS[request.param])
        for node in redis_cluster.nodes:
            node.command("FLUSHALL")
        await left_clean(redis_cluster)


@pytest.mark.usefixtures("at_rest")
class TestRedisClusterManager(ManagerSuite):
    """Managers, all of whose rooms are in one slot."""

    @pytest.fixture
    async def backplane(self, redis_cluster: RedisCluster) -> AsyncIterator[Backplane]:
        yield ServerBackplane(
            redis_cluster, lambda cluster: RedisClusterAdapter(cluster.url, prefix="{shop}")
        )
        await left_clean(redis_cluster)


@pytest.mark.usefixtures("at_rest")
class TestRedisClusterSilence(SilenceSuite):
    """Workers that do not answer, on a cluster."""

    @pytest.fixture
    async def backplane(self, redis_cluster: RedisCluster) -> AsyncIterator[Backplane]:
        yield ServerBackplane(redis_cluster, VARIANTS["RESP3"])
        await left_clean(redis_cluster)


@pytest.mark.usefixtures("at_rest")
class TestRedisClusterItself:
    """Rooms all over a cluster."""

    async def test_every_room_has_its_messages_in_order_wherever_it_lives(
        self, redis_cluster: RedisCluster
    ) -> None:
        names = [f"room {number}" for number in range(60)]
        at = {redis_cluster.master_of(f"rooms#{{/#{name}}}#").port for name in names}
        assert len(at) == 3
        async with Cluster(3, adapter=lambda: RedisClusterAdapter(redis_cluster.url)) as workers:
            members = [await workers.member(w, name) for w in workers for name in names]
            sent = [str(number) for number in range(20)]
            await asyncio.gather(
                *(workers[0].to(name).send_text(number) for number in sent for name in names)
            )
            for member in members:
                assert [await member.receive_text() for _ in sent] == sent

    async def test_all_rooms_and_single_sockets_are_reached_too(
        self, redis_cluster: RedisCluster
    ) -> None:
        async with Cluster(3, adapter=lambda: RedisClusterAdapter(redis_cluster.url)) as workers:
            one, two, _ = workers
            members = [await workers.member(w, f"at {n}") for n, w in enumerate(workers)]
            for number, worker in enumerate(workers):
                await worker.send_text(f"to all, from {number}")
                await worker.to("at 0", "at 1", "at 2").send_text(f"to several, from {number}")
            for member in members:
                heard = {await member.receive_text() for _ in range(6)}
                assert len(heard) == 6
            await one.to(members[2].sid).send_text("psst")
            assert await members[2].receive_text() == "psst"
            await two.to(members[0].sid).send_text("psst")
            assert await members[0].receive_text() == "psst"

    async def test_a_worker_has_two_connections_to_each_master(
        self, redis_cluster: RedisCluster
    ) -> None:
        async with RoomManager(redis_cluster.url) as rooms, Member(rooms, "lobby"):
            await rooms.to("lobby").send_text("hello")
            assert rooms.health.ready
            assert len(redis_cluster.connections("normal")) == 3
            assert len(redis_cluster.connections("pubsub")) == 3
            assert redis_cluster.numsub("rooms#{/#lobby}#") == 1

    async def test_a_message_goes_to_one_node_only(self, redis_cluster: RedisCluster) -> None:
        async with RoomManager(redis_cluster.url) as rooms:
            home = redis_cluster.master_of("rooms#{/#lobby}#")
            before = [node.calls("spublish") for node in redis_cluster.nodes]
            for _ in range(100):
                await rooms.to("lobby").send_text("hello")
            after = [node.calls("spublish") for node in redis_cluster.nodes]
            for node, was, is_ in zip(redis_cluster.nodes, before, after, strict=True):
                # A worker's own heartbeats and probes are few.
                assert is_ - was >= 100 if node is home else is_ - was < 50
            assert not any(node.calls("publish") for node in redis_cluster.nodes)

    @pytest.mark.parametrize("prefix", ["rooms", "{shop}", "}{shop}{"])
    async def test_a_rooms_channel_and_what_is_kept_of_it_are_in_one_slot(
        self, redis_cluster: RedisCluster, prefix: str
    ) -> None:
        channels = Channels(prefix, sharded=True)
        for name in ("a", "{", "}", "{}", "}{", "{a}{b}", "#", "}#", " ", "\0", "{Grüße} 🎉"):
            channel = channels.of_room("/", name)
            keys = keys_of(prefix.encode(), f"/#{name}".encode())
            slots = {redis_cluster.slot_of(text) for text in (channel, *keys)}
            assert slots == {slot_of(channel)}

    async def test_any_one_node_is_enough_to_find_the_others(
        self, redis_cluster: RedisCluster
    ) -> None:
        alone = redis_cluster.nodes[2].url.replace("redis:", "redis+cluster:")
        one, two = RoomManager(redis_cluster.url), RoomManager(alone)
        async with one, two, Member(two, *(f"room {number}" for number in range(20))) as member:
            for number in range(20):
                await one.to(f"room {number}").send_text(str(number))
            assert {await member.receive_text() for _ in range(20)} == {str(n) for n in range(20)}

    async def test_a_client_of_ones_own_is_left_alone(self, redis_cluster: RedisCluster) -> None:
        client = Client.from_url(redis_cluster.nodes[0].url)
        async with client:
            async with RoomManager(RedisClusterAdapter(client)) as rooms, Member(rooms, "lobby"):
                await rooms.to("lobby").send_text("hello")
                assert await client.ping()
            assert await client.ping()

    async def test_every_connection_is_by_tls_where_the_url_says_so(
        self, certificates: Certificates
    ) -> None:
        async with RedisCluster(password="p@ss:/?#word", certificates=certificates) as cluster:
            assert cluster.url.startswith("rediss+cluster://")
            names = [f"room {number}" for number in range(20)]
            one, two = RoomManager(cluster.url), RoomManager(cluster.url)
            async with one, two, Member(two, *names) as member:
                for name in names:
                    await one.to(name).send_text(name)
                assert {await member.receive_text() for _ in names} == {*names}
                by_tls = {f"{node.host}:{node.tls_port}" for node in cluster.nodes}
                connections = cluster.connections()
                assert len(connections) == 2 * 2 * 3
                assert {client["laddr"] for client in connections} == by_tls
            await left_clean(cluster)


class TestRedisClusterWhoseSlotsMayBeMoving:
    """What a worker does in its first seconds, in which it takes slots for being on the move."""

    async def test_workers_know_each_other_from_the_start(
        self, redis_cluster: RedisCluster
    ) -> None:
        one, two = RoomManager(redis_cluster.url), RoomManager(redis_cluster.url)
        async with one, two:
            assert one.nodes() == two.nodes() == {one.node, two.node}
        await left_clean(redis_cluster)

    async def test_one_that_died_without_a_word_is_waited_for_until_they_are_at_rest(
        self, redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(node_pool, "UNREST", 1.5)
        one = RoomManager(redis_cluster.url)
        async with one, mute_worker(ServerBackplane(redis_cluster, VARIANTS["RESP3"]), one) as dead:
            await dead.adapter.close()
            assert await one.count(timeout=60) == 0
            assert dead.node not in one.nodes()
        await left_clean(redis_cluster)
