"""Another Redis becomes the master: with the old one dead, frozen, demoted, or as yet unaware."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, Gap, RedisAdapter, RoomManager
from fastapi_rooms.testing import Member, Proxy, RedisServer, SentinelServers, eventually
from tests.faults.support import manager, ready, talking


@pytest.fixture
async def servers(sentinel_servers: SentinelServers) -> AsyncIterator[SentinelServers]:
    """Those of the session, as they were at the end."""
    yield sentinel_servers
    await asyncio.to_thread(sentinel_servers.restore)
    await eventually(lambda: not sentinel_servers.connections())


class Pair:
    """Two workers, and a member of the room `lobby` on each."""

    def __init__(self, near: RoomManager, far: RoomManager, caplog: pytest.LogCaptureFixture):
        self.near = near
        self.far = far
        self.here = Member(near, "lobby")
        self.there = Member(far, "lobby")
        self.gaps: list[list[Gap]] = [[], []]
        near.on("gap")(self.gaps[0].append)
        far.on("gap")(self.gaps[1].append)
        self._caplog = caplog

    async def hears(self, word: str) -> None:
        """Each hears the other, and itself, once."""
        for speaker, name in ((self.near, "near"), (self.far, "far")):
            await speaker.to("lobby").send_text(f"{word} from {name}")
            for listener in (self.here, self.there):
                before = await listener.receive_until(f"{word} from {name}")
                assert not [text for text in before if str(text).startswith(word)]

    async def recovers(self, word: str) -> None:
        """Both are connected anew, hear each other, and have told that they were not."""
        await ready(self.near, self.far, after=1)
        await self.hears(word)
        for gaps in self.gaps:
            await eventually(lambda gaps=gaps: gaps)  # type: ignore[misc]
            assert gaps[0].rooms == ("lobby",)

    def log(self) -> list[tuple[int, str]]:
        return [
            (record.levelno, record.getMessage())
            for record in self._caplog.records
            if record.name == "fastapi_rooms"
        ]

    def assert_logged_once(self, workers: int = 2) -> None:
        levels = sorted(level for level, _ in self.log())
        assert levels == [logging.WARNING] * workers + [logging.ERROR] * workers, self.log()


@asynccontextmanager
async def two_workers(
    servers: SentinelServers, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Pair]:
    pair = Pair(RoomManager(servers.url), RoomManager(servers.url), caplog)
    async with pair.near, pair.far, pair.here, pair.there:
        await pair.hears("before")
        caplog.clear()
        yield pair


async def test_a_killed_master_is_followed_to_its_successor(
    servers: SentinelServers, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_workers(servers, caplog) as pair, talking(pair.near, "lobby") as talk:
        old = servers.kill_master()
        await eventually(lambda: not pair.near.health.ready and not pair.far.health.ready)
        assert pair.near.health.reason
        await asyncio.to_thread(servers.elected, instead_of=old)
        await pair.recovers("after")
        await talk.goes_on()
        pair.assert_logged_once()
        assert pair.near.health.reason == ""
        assert [len(gaps) for gaps in pair.gaps] == [1, 1]  # nobody was left behind at the old one


async def test_a_demoted_master_is_left_while_it_still_answers_as_one(
    servers: SentinelServers, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_workers(servers, caplog) as pair, talking(pair.near, "lobby") as talk:
        old = servers.master
        await asyncio.to_thread(servers.failover)
        await pair.recovers("after")
        await talk.goes_on()
        pair.assert_logged_once()
        assert all("no longer the master" in text for level, text in pair.log() if level > 30)
        assert old.numsub("rooms#/#lobby#") == 0


async def test_a_frozen_master_is_left_and_nobody_goes_back_when_it_thaws(
    servers: SentinelServers, caplog: pytest.LogCaptureFixture
) -> None:
    async with two_workers(servers, caplog) as pair, talking(pair.near, "lobby") as talk:
        old = servers.master
        old.freeze()
        await asyncio.to_thread(servers.elected, instead_of=old)
        await pair.recovers("after")
        await talk.goes_on()
        old.thaw()
        await asyncio.to_thread(servers.restore)
        assert old.command("ROLE")[0] == b"slave"
        await pair.hears("thawed")
        assert pair.near.health.reconnects == pair.far.health.reconnects == 1
        pair.assert_logged_once()


async def test_a_connection_that_hangs_at_a_frozen_master_is_given_up_for_the_new_one(
    servers: SentinelServers,
) -> None:
    servers.master.freeze()
    old = servers.master
    rooms = RoomManager(RedisAdapter(f"{servers.url}?socket_timeout=60", connect_timeout=60))
    electing = asyncio.create_task(asyncio.to_thread(servers.elected, instead_of=old))
    async with asyncio.timeout(30), rooms:  # less than the attempt would hang for
        await electing
        await ready(rooms)


async def test_without_sentinels_what_is_connected_goes_on_and_what_is_lost_waits_for_one(
    servers: SentinelServers, caplog: pytest.LogCaptureFixture
) -> None:
    master = servers.master
    async with two_workers(servers, caplog) as pair:
        for sentinel in servers.sentinels:
            sentinel.kill()
        await pair.hears("without sentinels")
        assert pair.log() == []
        master.kill_connections("normal")
        master.kill_connections("pubsub")
        known = "no sentinel knows a master 'mymaster'"
        await eventually(lambda: known in pair.near.health.reason)
        await eventually(lambda: known in pair.far.health.reason)
        await asyncio.to_thread(servers.sentinels[1].start)
        await pair.recovers("with one")
        pair.assert_logged_once()


@pytest.fixture
async def other_redis() -> AsyncIterator[RedisServer]:
    """Another Redis for one test."""
    async with RedisServer() as server:
        yield server


def follow(replica: RedisServer, master: RedisServer) -> None:
    replica.command("REPLICAOF", master.host, str(master.port))


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_master_that_becomes_a_replica_behind_its_name_is_left(
    own_redis: RedisServer,
    other_redis: RedisServer,
    wire: Proxy,
    caplog: pytest.LogCaptureFixture,
    protocol: int,
) -> None:
    url = f"{own_redis.url_of(wire.host, wire.port)}?protocol={protocol}"
    near = RoomManager(RedisAdapter(url, probe_interval=0.1))
    pair = Pair(near, manager(other_redis), caplog)
    async with pair.near, pair.far, pair.here, pair.there:
        follow(own_redis, other_redis)
        await eventually(lambda: not near.health.ready)
        await eventually(lambda: "it is a replica" in near.health.reason)
        left = near.health.since
        wire.lead_to(other_redis.host, other_redis.port)
        await ready(near, after=1)
        await pair.hears("after")
        assert len(pair.gaps[0]) == 1
        pair.assert_logged_once(workers=1)
        assert "it is a replica, not a master" in pair.log()[0][1]
        # What `near` published on the replica was accepted, and did not reach `far`.
        (gap,) = await eventually(lambda: pair.gaps[1])
        assert gap.rooms == ("lobby",)
        assert gap.since < left < gap.until
        assert pair.far.health.reconnects == 0


async def test_a_join_at_a_replica_fails_and_says_why(
    own_redis: RedisServer, other_redis: RedisServer
) -> None:
    follow(own_redis, other_redis)
    rooms = RoomManager(own_redis.url, join_timeout=0.1)
    async with rooms:
        assert not rooms.health.ready
        with pytest.raises(AdapterUnavailable, match="is a replica, not a master"):
            async with rooms.listen("lobby"):
                pytest.fail("it listens")
        with pytest.raises(WebSocketDisconnect):
            await Member(rooms, "lobby").open()
        own_redis.command("REPLICAOF", "NO", "ONE")
        await ready(rooms)


async def test_a_publisher_and_a_subscriber_on_two_masters_are_not_called_connected(
    own_redis: RedisServer, other_redis: RedisServer, wire: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    near = RoomManager(RedisAdapter(url, probe_interval=0.2))
    pair = Pair(near, manager(other_redis), caplog)
    async with pair.near, pair.far, pair.here, pair.there:
        wire.lead_to(other_redis.host, other_redis.port)
        own_redis.kill_connections("normal")  # so it publishes there, and listens here
        await eventually(lambda: other_redis.connections("normal"))
        await ready(near, after=1)
        assert not own_redis.connections()
        await pair.hears("after")
        assert len(pair.gaps[0]) == 1
        pair.assert_logged_once(workers=1)


async def test_a_sentinel_taken_for_a_redis_is_named_as_one(servers: SentinelServers) -> None:
    sentinel = servers.sentinels[0]
    rooms = RoomManager(sentinel.url)
    async with rooms:
        assert not rooms.health.ready
        assert "use redis+sentinel://" in rooms.health.reason


async def test_a_redis_taken_for_a_sentinel_and_a_name_that_none_knows_are_told(
    servers: SentinelServers,
) -> None:
    redis = servers.master
    for url, told in (
        (f"redis+sentinel://{redis.host}:{redis.port}/mymaster", "unknown command"),
        (servers.url.replace("mymaster", "another"), "No such master"),
    ):
        rooms = RoomManager(url)
        async with rooms:
            assert not rooms.health.ready
            assert told in rooms.health.reason
