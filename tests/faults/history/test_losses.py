"""What Redis has lost of a room is never taken for the whole."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.testing import Proxy, RedisServer, SentinelServers, eventually
from tests.faults.kept import META, ROOM, STREAM, Worker, numbered, worker
from tests.faults.support import NEVER


async def test_after_a_flush_every_old_position_is_refused(
    own_redis: RedisServer, near: Worker
) -> None:
    positions = await near.append_all(numbered(3))
    own_redis.admin.flushall()
    assert await near.adapter.tops([ROOM]) == [None]
    for position in positions:
        assert await near.missed_since(position) is None
    new = await near.append_all(numbered(3))
    for position in positions:
        assert await near.missed_since(position) is None
    assert await near.missed_since(new[0]) == [b"1", b"2"]
    assert new[0].offset == 1


async def test_without_its_meta_a_stream_is_not_believed_and_goes_with_the_next_message(
    own_redis: RedisServer, near: Worker
) -> None:
    (*_, last) = await near.append_all(numbered(3))
    own_redis.admin.delete(META)
    stretch = await near.read()
    assert (stretch.top.offset, stretch.messages) == (0, [])
    assert stretch.top.epoch != last.epoch
    position = await near.append(b"new")
    assert (position.epoch, position.offset) == (stretch.top.epoch, 1)
    assert await near.kept() == [b"new"]
    assert await near.missed_since(last) is None


async def test_without_its_stream_a_room_still_knows_who_has_missed_nothing(
    own_redis: RedisServer, near: Worker
) -> None:
    (*_, before, last) = await near.append_all(numbered(3))
    own_redis.admin.delete(STREAM)
    assert await near.kept() == []
    assert await near.missed_since(last) == []
    assert await near.missed_since(before) is None
    position = await near.append(b"3")
    assert (position.epoch, position.offset) == (last.epoch, 4)
    assert await near.kept() == [b"3"]
    assert await near.missed_since(last) == [b"3"]
    assert await near.missed_since(before) is None


async def test_a_stream_with_another_end_than_its_room_is_not_believed(
    own_redis: RedisServer, near: Worker
) -> None:
    (*_, last) = await near.append_all(numbered(3))
    own_redis.admin.xadd(STREAM, {"d": "forged"}, id=f"{last.offset + 7}-1")
    assert await near.kept() == numbered(3), "what is beyond the end may have come meanwhile"
    own_redis.admin.xdel(STREAM, f"{last.offset}-{last.tag}")
    assert await near.kept() == []
    assert await near.missed_since(last) == []
    await near.append(b"3")  # whose number is not above that of the forged one
    assert await near.kept() == [b"3"]


async def test_keys_of_another_kind_are_refused_or_replaced(
    own_redis: RedisServer, near: Worker
) -> None:
    own_redis.admin.set(STREAM, "a string")
    last = await near.append(b"hello")
    assert await near.kept() == [b"hello"]
    own_redis.admin.set(META, "a string")
    for refused in (near.append(b"lost"), near.read(), near.missed_since(last)):
        with pytest.raises(AdapterUnavailable, match=r"WRONGTYPE.*a prefix of its own") as raised:
            await refused
        assert not raised.value.uncertain
    assert await near.adapter.tops([ROOM]) == [None]


@pytest.mark.parametrize(
    "meta",
    [
        {"epoch": "x" * 16},
        {"epoch": "0" * 15},
        {"offset": "-1"},
        {"offset": "1.5"},
        {"offset": str(2**53 + 1)},
        {"offset": "0"},
        {"tag": "0"},
        {"tag": "x"},
        {"tag": "1" * 21},
    ],
)
async def test_a_numbering_that_makes_no_sense_is_lost_count_of(
    own_redis: RedisServer, near: Worker, meta: dict[str, str]
) -> None:
    last = await near.append(b"hello")
    own_redis.command("HSET", META, *itertools.chain(*meta.items()))
    assert await near.adapter.tops([ROOM]) == [None]
    with pytest.raises(AdapterUnavailable, match="a prefix of its own"):
        await near.read()
    position = await near.append(b"again")
    assert position.epoch != last.epoch
    assert position.offset == 1
    assert await near.kept() == [b"again"]


async def test_a_redis_restarted_empty_refuses_every_old_position(
    own_redis: RedisServer, near: Worker
) -> None:
    positions = await near.append_all(numbered(3))
    await asyncio.to_thread(own_redis.restart)
    for position in positions:
        assert await near.missed_since(position) is None
    assert (await near.append(b"new")).offset == 1


async def test_a_redis_restarted_from_its_disk_goes_on_counting() -> None:
    saving = ("--appendonly", "yes", "--appendfsync", "always")
    async with RedisServer(arguments=saving) as server, worker(server.url) as near:
        positions = await near.append_all(numbered(3))
        await asyncio.to_thread(server.restart)
        assert await near.missed_since(positions[0]) == [b"1", b"2"]
        last = await near.append(b"3")
        assert (last.epoch, last.offset) == (positions[0].epoch, 4)


async def test_after_a_failover_that_lost_two_messages_nobody_who_had_them_is_told_a_lie(
    own_redis: RedisServer, wire: Proxy, near: Worker
) -> None:
    own_redis.admin.config_set("repl-diskless-sync-delay", 0)
    async with RedisServer() as other:
        before = await near.append_all(numbered(8))
        other.command("REPLICAOF", own_redis.host, str(own_redis.port))
        await eventually(lambda: other.admin.hget(META, "offset") == b"8")
        other.command("REPLICAOF", "NO", "ONE")
        lost = await near.append_all([b"lost 8", b"lost 9"])
        wire.lead_to(other.host, other.port)
        wire.cut()
        found = await near.append_all([b"8", b"9", b"10"])
        assert found[1].epoch == lost[1].epoch
        assert found[1].offset == lost[1].offset
        for position in lost:
            assert await near.missed_since(position) is None
        assert await near.missed_since(before[-1]) == [b"8", b"9", b"10"]
        assert await near.missed_since(found[0]) == [b"9", b"10"]


async def test_after_a_failover_that_lost_messages_a_room_that_is_cleared_tells_no_lie(
    own_redis: RedisServer, wire: Proxy, near: Worker
) -> None:
    own_redis.admin.config_set("repl-diskless-sync-delay", 0)
    async with RedisServer() as other:
        before = await near.append_all(numbered(8))
        other.command("REPLICAOF", own_redis.host, str(own_redis.port))
        await eventually(lambda: other.admin.hget(META, "offset") == b"8")
        other.command("REPLICAOF", "NO", "ONE")
        lost = await near.append_all([b"lost 8", b"lost 9"])
        wire.lead_to(other.host, other.port)
        wire.cut()
        for number in range(3):  # the end is at 8, and at what either of the lost ones was
            cleared = (await near.read()).top
            await near.adapter.forget(ROOM)
            await near.append(b"new %d" % number)
            for position in lost:
                assert await near.missed_since(position) is None
            assert await near.missed_since(cleared) == [b"new %d" % number]
        assert await near.missed_since(before[-1]) is None


async def test_what_a_stream_says_of_the_message_before_is_believed_of_the_first_only(
    own_redis: RedisServer, near: Worker
) -> None:
    """As a stream could be that was written to by hand."""
    (one, two, three) = await near.append_all(numbered(3))
    own_redis.admin.xadd(STREAM, {"d": "3", "p": two.tag}, id=f"4-{10**19}")
    own_redis.admin.hset(META, mapping={"offset": 4, "tag": 10**19})
    assert await near.missed_since(one) == [b"1", b"2", b"3"]
    assert await near.missed_since(two) == [b"2", b"3"]
    assert await near.missed_since(three) == [b"3"]
    assert await near.missed_since(three._replace(tag=two.tag)) is None


async def test_a_master_that_becomes_a_replica_behind_its_name_is_left(
    own_redis: RedisServer, wire: Proxy
) -> None:
    own_redis.admin.config_set("repl-diskless-sync-delay", 0)
    url = own_redis.url_of(wire.host, wire.port)
    async with (
        RedisServer() as other,
        worker(url, probe_interval=NEVER) as near,  # so that nothing else finds it out
    ):
        first = await near.append(b"first")
        other.command("REPLICAOF", own_redis.host, str(own_redis.port))
        await eventually(lambda: other.admin.hget(META, "offset") == b"1")
        other.command("REPLICAOF", "NO", "ONE")
        own_redis.command("REPLICAOF", other.host, str(other.port))
        wire.lead_to(other.host, other.port)
        second = await near.append(b"second")
        assert (second.epoch, second.offset) == (first.epoch, 2)
        other.command("REPLICAOF", own_redis.host, str(own_redis.port))
        own_redis.command("REPLICAOF", "NO", "ONE")
        wire.lead_to(own_redis.host, own_redis.port)
        with pytest.raises(AdapterUnavailable, match="it is a replica"):
            await near.adapter.tops([ROOM])
        assert await near.missed_since(first) == [b"second"]


def clients_of(server: RedisServer) -> list[dict[str, str]]:
    """Its connections, without those of sentinels and of the other Redis."""
    return [
        client
        for client in server.connections()
        if not client["name"].startswith("sentinel-") and not {"S", "M"} & set(client["flags"])
    ]


async def test_sentinels_lead_history_to_the_new_master(sentinel_servers: SentinelServers) -> None:
    servers = sentinel_servers
    try:
        async with worker(servers.url) as near:
            first = await near.append(b"first")
            await eventually(lambda: servers.replica.admin.hget(META, "offset") == b"1")
            old = servers.master
            new = await asyncio.to_thread(servers.failover)
            await eventually(lambda: not clients_of(old), what="it has left the old one")
            await eventually(lambda: near.adapter.health.reconnects, what="it is in the room")
            second = await near.append(b"second")
            assert (second.epoch, second.offset) == (first.epoch, 2)
            assert new.admin.xlen(STREAM) == 2
            await near.hears(second)
            new.admin.flushall()
    finally:
        await asyncio.to_thread(servers.restore)
