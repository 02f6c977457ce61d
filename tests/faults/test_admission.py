"""Clients that come while Redis is away, and are let in: `when_unavailable="admit"`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    Gap,
    RedisAdapter,
    RedisClusterAdapter,
    RequestTimeout,
    RoomManager,
)
from fastapi_rooms.cluster import heartbeat
from fastapi_rooms.testing import Member, Proxy, RedisCluster, RedisServer, eventually
from tests.faults.support import NEVER, QUICK, busy, manager, ready


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers do not wait for each other at the start: nobody is asked for anything here."""
    monkeypatch.setattr(heartbeat, "DISCOVERY_TIMEOUT", 0.1)


class Carrier:
    """A Redis, or a Redis Cluster, that goes and comes back: it is killed, stopped or frozen."""

    def __init__(self, server: RedisServer | RedisCluster, how: str = "kill") -> None:
        self.server = server
        self.nodes = server.nodes if isinstance(server, RedisCluster) else [server]
        self._how = how

    def manager(self, **options: Any) -> RoomManager:
        """A worker's manager, which notices soon. `options` are the adapter's."""
        kind = RedisClusterAdapter if isinstance(self.server, RedisCluster) else RedisAdapter
        adapter = kind(self.server.url, **QUICK | options)
        return RoomManager(adapter, linger=0.05, join_timeout=NEVER, when_unavailable="admit")

    async def go(self, *workers: RoomManager) -> None:
        """Be away, and wait until these have noticed."""
        for node in self.nodes:
            await asyncio.to_thread(getattr(node, self._how))
        await eventually(lambda: not any(map(self.is_reached_by, workers)))

    def is_reached_by(self, worker: RoomManager) -> bool:
        """Whether a worker believes that it reaches any of the nodes."""
        adapter = worker._runtime.adapter
        if not isinstance(adapter, RedisClusterAdapter):
            return worker.health.connected
        channels = [worker._runtime.channels.of_room("/", f"room {n}") for n in range(100)]
        return worker.health.connected or any(map(adapter.is_reachable, channels))

    async def come(self) -> None:
        """Be there again."""
        if isinstance(self.server, RedisCluster):
            await asyncio.to_thread(self.server.restart)
        else:
            resume = self.server.thaw if self._how == "freeze" else self.server.start
            await asyncio.to_thread(resume)

    def subscribers(self, room: str) -> int:
        """How many workers are subscribed to a room."""
        if isinstance(self.server, RedisCluster):
            channel = f"rooms#{{/#{room}}}#"
            return self.server.master_of(channel).shard_numsub(channel)
        return self.server.numsub(f"rooms#/#{room}#")


@pytest.fixture(params=["redis kill", "redis stop", "redis freeze", "cluster kill"])
async def carrier(request: pytest.FixtureRequest) -> AsyncIterator[Carrier]:
    """One of one's own."""
    kind, how = request.param.split()
    if kind == "redis":
        with RedisServer() as server:
            yield Carrier(server, how)
    else:
        async with RedisCluster(node_timeout=2000) as cluster:
            yield Carrier(cluster, how)


def gaps_of(rooms: RoomManager) -> list[Gap]:
    """Every gap from now on."""
    gaps: list[Gap] = []
    rooms.on("gap")(gaps.append)
    return gaps


def rooms_told(gaps: list[Gap], at: float) -> set[str]:
    """The rooms that may have missed what was said at that time."""
    return {room for gap in gaps if gap.since <= at <= gap.until for room in gap.rooms}


async def assert_hear_each_other(one: RoomManager, there: Member, *rooms: str) -> None:
    """What one worker says in each room now, a member of all of them on the other hears."""
    for room in rooms:
        await one.to(room).send_text(f"back in {room}")
        await there.receive_until(f"back in {room}")


async def test_clients_that_come_in_an_outage_are_local_and_then_told_of_a_gap(
    carrier: Carrier,
) -> None:
    near, far = carrier.manager(), carrier.manager()
    gaps = gaps_of(near)
    async with near, far, Member(near, "before") as old:
        await carrier.go(near, far)
        went = time.time()
        async with (
            Member(near, "lobby", "before", "left") as ann,
            Member(near, "lobby") as bob,
            Member(far, "lobby", "before") as there,
            near.listen("news") as messages,
        ):
            joined = time.time()
            await ann.socket.leave("left")
            with pytest.raises(AdapterUnavailable):
                await near.to("lobby").send_text("only here")
            with pytest.raises(AdapterUnavailable):
                await far.to("lobby").send_text("only there")
            assert await ann.receive() == await bob.receive() == "only here"
            assert await there.receive() == "only there"
            assert near.health.reason
            assert gaps == []
            await carrier.come()
            await eventually(lambda: near.health.connected and far.health.connected)
            await eventually(lambda: rooms_told(gaps, joined) == {"lobby", "before", "news"})
            assert rooms_told(gaps, went) >= {"before"}
            assert all(gap.until > joined for gap in gaps)
            await assert_hear_each_other(far, ann, "lobby", "before")
            await assert_hear_each_other(near, there, "lobby", "before")
            await far.to("news").send_text("and listeners")
            assert (await anext(messages)).text == "and listeners"
            assert await old.receive() == "back in before"
            assert carrier.subscribers("left") == 0
        await eventually(lambda: carrier.subscribers("lobby") == 0)


async def test_a_worker_that_starts_in_an_outage_lets_clients_in_and_tells_them(
    carrier: Carrier,
) -> None:
    near, far = carrier.manager(), carrier.manager()
    gaps = gaps_of(near)
    await carrier.go()
    async with near, far:
        assert (near.health.ready, near.health.connected) == (True, False)
        begun = time.time()
        async with Member(near, "lobby") as here:
            joined = time.time()
            with pytest.raises(AdapterUnavailable):
                await near.to("lobby").send_text("only here")
            assert await here.receive() == "only here"
            await carrier.come()
            await eventually(lambda: near.health.connected and far.health.connected)
            await eventually(lambda: rooms_told(gaps, joined) == {"lobby"})
            assert rooms_told(gaps, begun - 1) == set(), "nobody was there by then"
            await assert_hear_each_other(far, here, "lobby")
        assert near.health.reconnects == 0


async def test_one_that_comes_and_goes_in_an_outage_leaves_nothing(carrier: Carrier) -> None:
    near = carrier.manager()
    gaps = gaps_of(near)
    async with near, Member(near, "before") as here:
        await carrier.go(near)
        tasks = asyncio.all_tasks()
        for number in range(20):
            async with Member(near, "lobby", f"room {number}"):
                await here.socket.join("lobby")
                await here.socket.leave("lobby")
        await eventually(lambda: not {t for t in asyncio.all_tasks() if not t.done()} - tasks)
        await eventually(lambda: len(near._runtime.run._interest._idle_since) == 0)
        await carrier.come()
        await eventually(lambda: near.health.connected)
        assert carrier.subscribers("before") == 1
        assert carrier.subscribers("lobby") == carrier.subscribers("room 3") == 0
        assert {room for gap in gaps for room in gap.rooms} <= {"before"}


async def test_a_second_outage_before_all_is_confirmed_keeps_the_first_beginning(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    near = RoomManager(RedisAdapter(url, **QUICK), join_timeout=NEVER, when_unavailable="admit")
    gaps = gaps_of(near)
    async with near:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        async with Member(near, "lobby"):
            joined = time.time()
            for _ in range(3):
                wire.stall()
                await wire.accept()
                await eventually(lambda: wire.connections)
                wire.refuse()
                await eventually(lambda: not wire.connections)
            assert gaps == []
            wire.resume()
            await wire.accept()
            await eventually(lambda: near.health.connected)
            await eventually(lambda: rooms_told(gaps, joined) == {"lobby"})


async def test_a_half_open_connection_has_the_join_timeout_and_then_they_are_in(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    near = RoomManager(url, join_timeout=0.1, when_unavailable="admit")
    gaps = gaps_of(near)
    async with near, Member(near) as here:
        wire.stall()
        assert near.health.connected
        await here.socket.join("lobby")
        assert "lobby" in here.socket.rooms
        joined = time.time()
        await near.local.to("lobby").send_text("here")
        assert await here.receive() == "here"
        assert gaps == []
        wire.resume()
        await eventually(lambda: rooms_told(gaps, joined) == {"lobby"})
        assert own_redis.numsub("rooms#/#lobby#") == 1


async def test_a_redis_that_is_busy_is_waited_for_and_then_they_are_in(
    own_redis: RedisServer,
) -> None:
    near = RoomManager(own_redis.url, join_timeout=0.1, when_unavailable="admit")
    gaps = gaps_of(near)
    async with near, Member(near) as here:
        async with busy(own_redis):
            await here.socket.join("lobby")
            joined = time.time()
        await eventually(lambda: rooms_told(gaps, joined) == {"lobby"})
        await eventually(lambda: near.health.connected)


async def test_a_node_that_is_away_holds_up_nobody_and_the_others_confirm() -> None:
    async with RedisCluster(node_timeout=2000) as cluster:
        near = Carrier(cluster).manager()
        gaps = gaps_of(near)
        last = cluster.master_of("rooms#/#")
        names = {cluster.master_of(f"rooms#{{/#room {n}}}#").port: f"room {n}" for n in range(50)}
        away = next(node for node in cluster.nodes if node.port != last.port)
        well = next(n for n in cluster.nodes if n.port not in (last.port, away.port))
        async with near, Member(near) as here:
            away.kill()
            await eventually(lambda: not near.health.connected)
            await here.socket.join(names[away.port], names[well.port])
            joined = time.time()
            channel = f"rooms#{{/#{names[well.port]}}}#"
            assert well.shard_numsub(channel) == 1, "confirmed before join returned"
            await asyncio.to_thread(cluster.restart)
            await eventually(lambda: near.health.connected)
            await eventually(lambda: names[away.port] in rooms_told(gaps, joined))
            assert names[well.port] not in rooms_told(gaps, joined)


async def test_what_asks_other_workers_says_as_ever_that_it_cannot(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    near = RoomManager(
        url, join_timeout=NEVER, publish_timeout=0.1, request_timeout=0.5, when_unavailable="admit"
    )
    far = manager(own_redis)
    async with near, far, Member(near, sid="ann") as here:
        await eventually(lambda: near.nodes() == far.nodes() == {near.node, far.node})
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        with pytest.raises((AdapterUnavailable, RequestTimeout)):
            await near.sockets_join("lobby")
        assert here.socket.rooms == {"ann", "lobby"}, "this worker has done its part"
        with pytest.raises((AdapterUnavailable, RequestTimeout)):
            await near.count()
        assert await near.local.count() == 1
        await wire.accept()
        await ready(near)
