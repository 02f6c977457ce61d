"""What Redis keeps of a room, when connections break, scripts are forgotten and keys are lost."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.pubsub import adapter as adapter_module
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.testing import Direction, Proxy, RedisServer, SentinelServers, eventually
from tests.faults.kept import META, RETENTION, ROOM, STREAM, Worker, worker
from tests.faults.support import NEVER


@pytest.fixture
async def near(own_redis: RedisServer, wire: Proxy) -> AsyncIterator[Worker]:
    """A worker on the wire."""
    async with worker(own_redis.url_of(wire.host, wire.port)) as one:
        yield one


@pytest.fixture
async def far(own_redis: RedisServer) -> AsyncIterator[Worker]:
    """A worker with a connection of its own."""
    async with worker(own_redis.url) as one:
        yield one


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


# Order, and once.


async def test_two_who_append_at_once_make_one_order_that_everyone_hears(
    near: Worker, far: Worker
) -> None:
    sent = numbered(400)
    positions = await asyncio.gather(
        *((near, far)[number % 2].append(data) for number, data in enumerate(sent))
    )
    last = max(positions, key=lambda position: position.offset)
    kept = await near.kept()
    assert sorted(kept) == sorted(sent)
    assert await near.hears(last) == await far.hears(last) == kept
    for own in (sent[::2], sent[1::2]):
        assert [data for data in kept if data in own] == own


@pytest.mark.parametrize(
    "direction",
    [
        pytest.param(Direction.TO_SERVER, id="before it reached Redis"),
        pytest.param(Direction.TO_CLIENT, id="before Redis' answer came"),
    ],
)
async def test_what_was_on_its_way_when_the_connection_broke_is_kept_once_and_in_order(
    own_redis: RedisServer, wire: Proxy, near: Worker, far: Worker, direction: Direction
) -> None:
    await near.append(b"first")
    scripts = own_redis.calls("evalsha")
    wire.stall(direction)
    sent = numbered(300)
    appending = [asyncio.create_task(near.append(data)) for data in sent]
    if direction is Direction.TO_CLIENT:
        await eventually(lambda: own_redis.calls("evalsha") == scripts + 1)
        await far.append_all([b"by another"] * 300)  # they stand behind what is looked for
    else:
        await eventually(lambda: near.adapter.health.buffered)
    wire.cut()
    wire.resume()
    positions = await asyncio.gather(*appending)
    kept = await near.kept()
    assert [data for data in kept if data != b"by another"] == [b"first", *sent]
    assert kept[0] == b"first"
    stretch = await near.read()
    places = {message.offset: (message.tag, message.item) for message in stretch.messages}
    assert [places[p.offset] for p in positions] == [
        (p.tag, data) for p, data in zip(positions, sent, strict=True)
    ]
    assert await far.hears(stretch.top) == kept
    assert near.adapter.health.dropped == 0
    await eventually(lambda: near.adapter.health.buffered == 0)


async def test_connections_killed_in_full_flow_lose_and_double_nothing(
    own_redis: RedisServer, near: Worker, far: Worker
) -> None:
    appending = [asyncio.create_task(near.append(data)) for data in numbered(1000)]
    for killed in (200, 400, 600, 800):
        await appending[killed]
        own_redis.kill_connections("normal")
    await asyncio.gather(*appending)
    assert await near.kept() == numbered(1000)
    await far.hears((await far.read()).top)


async def test_a_script_that_is_forgotten_in_full_flow_changes_neither_order_nor_count(
    own_redis: RedisServer, near: Worker, far: Worker
) -> None:
    appending = [asyncio.create_task(near.append(data)) for data in numbered(1000)]
    for done in range(100, 1000, 100):
        await appending[done]
        own_redis.admin.script_flush()
    positions = await asyncio.gather(*appending)
    assert own_redis.calls("eval") > 2
    assert [position.offset for position in positions] == [*range(1, 1001)]
    assert await near.kept() == await far.hears(positions[-1]) == numbered(1000)


async def test_a_message_longer_than_a_batch_is_one(near: Worker, far: Worker) -> None:
    sent = [b"a", b"b" * 1_000_000, b"c", b"d" * 200_000, b"e" * 200_000]
    positions = await asyncio.gather(*(near.append(data) for data in sent))
    assert await near.kept() == await far.hears(positions[-1]) == sent


# What is lost.


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


# What is kept, and for how long.


async def test_one_message_more_than_the_size_is_kept_and_all_expire_together(
    own_redis: RedisServer, near: Worker
) -> None:
    retention = Retention(size=3, ttl=60.0)
    positions = [await near.append(data, ROOM, retention) for data in numbered(8)]
    assert await near.kept() == numbered(8)[-4:]
    assert await near.missed_since(positions[-4]) == numbered(8)[-3:]
    assert await near.missed_since(positions[-5]) is None
    assert 59_000 < own_redis.admin.pttl(STREAM) <= 60_000
    assert own_redis.admin.pttl(META) > 29 * 24 * 3600 * 1000
    own_redis.admin.pexpire(META, 1000)
    await near.read()
    assert own_redis.admin.pttl(META) > 29 * 24 * 3600 * 1000
    await near.append(b"soon gone", ROOM, Retention(size=3, ttl=0.001))
    await eventually(lambda: not own_redis.admin.exists(STREAM))
    assert (await near.read()).top.offset == 9


async def test_the_keys_of_a_room_are_named_after_it_and_share_a_slot(
    own_redis: RedisServer, near: Worker
) -> None:
    for name in (b"/#tea", b"/#}{", b"/{a}#b"):
        await near.append(b"hello", RoomKey(name, b"rooms#" + name))
        stem = b":{" + name + b"}"
        keys = sorted(own_redis.command("KEYS", "*"))
        assert keys == [b"rooms:meta" + stem, b"rooms:stream" + stem]
        assert len({slot_of(key) for key in keys}) == 1
        own_redis.admin.flushall()


async def test_the_connection_for_history_is_opened_when_it_is_first_used(
    own_redis: RedisServer,
) -> None:
    async with worker(own_redis.url) as near:
        assert len(own_redis.connections()) == 2
        assert await near.adapter.tops([]) == []
        assert len(own_redis.connections()) == 3
        assert own_redis.admin.keys("*") == []
    await eventually(lambda: not own_redis.connections())


# What takes too long.


async def test_what_was_not_written_in_time_is_never_sent(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=0.3) as near:
        await near.append(b"first")
        wire.refuse()
        await eventually(lambda: not near.adapter.health.connected)
        with pytest.raises(AdapterUnavailable, match=r"did not accept it in 0\.3 s") as raised:
            await near.append(b"late")
        assert not raised.value.uncertain
        with pytest.raises(AdapterUnavailable, match=r"did not answer in 0\.3 s"):
            await near.read()
        assert near.adapter.health.dropped == 1
        await eventually(lambda: near.adapter.health.buffered == 0)
        await wire.accept()
        await eventually(lambda: near.adapter.health.connected)

        async def is_read_again() -> bool:
            with suppress(AdapterUnavailable):  # its own connection may take longer
                return await near.kept() == [b"first"]
            return False

        await eventually(is_read_again)


async def test_what_was_written_and_not_answered_in_time_may_be_kept(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=0.3) as near:
        await near.append(b"first")
        wire.stall(Direction.TO_CLIENT)
        with pytest.raises(AdapterUnavailable, match="no answer comes") as raised:
            await near.append(b"perhaps")
        assert raised.value.uncertain
        wire.resume()
        await eventually(lambda: near.adapter.health.connected)
        await near.append(b"last")
        assert await near.kept() == [b"first", b"perhaps", b"last"]
        await eventually(lambda: near.adapter.health.buffered == 0)


async def test_a_connection_without_answers_is_replaced_though_messages_may_wait_for_long(
    own_redis: RedisServer, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "PATIENCE", 0.2)
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=NEVER, probe_interval=0.2) as near:
        await near.append(b"first")
        for connection in wire.connections:
            connection.stall()
        await near.append(b"goes out again on the next connection")
        assert (await near.read()).top.offset == 2


async def test_what_is_cancelled_before_it_is_written_is_taken_back(
    own_redis: RedisServer, wire: Proxy, near: Worker
) -> None:
    await near.append(b"first")
    wire.refuse()
    await eventually(lambda: not near.adapter.health.connected)
    kept = asyncio.create_task(near.append(b"kept"))
    await eventually(lambda: near.adapter.health.buffered)
    buffered = near.adapter.health.buffered
    for _ in range(3):
        cancelled = [asyncio.create_task(near.append(bytes(1000))) for _ in range(500)]
        await eventually(lambda: near.adapter.health.buffered > 500_000)
        for task in cancelled:
            task.cancel()
        await asyncio.wait(cancelled)
        assert near.adapter.health.buffered == buffered
    await wire.accept()
    await kept
    assert await near.kept() == [b"first", b"kept"]
    await eventually(lambda: near.adapter.health.buffered == 0)


async def test_what_waits_is_bounded_together_with_what_is_published(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, max_buffered_bytes=10_000) as near:
        await near.append(b"first")
        wire.refuse()
        await eventually(lambda: not near.adapter.health.connected)
        publishing = asyncio.ensure_future(near.adapter.publish(b"elsewhere", bytes(5000)))
        kept = asyncio.create_task(near.append(bytes(4000)))
        await eventually(lambda: near.adapter.health.buffered > 9000)
        with pytest.raises(AdapterUnavailable, match="of 10000 allowed") as raised:
            await near.append(bytes(4000))
        assert not raised.value.uncertain
        await wire.accept()
        await asyncio.gather(publishing, kept)
        assert await near.kept() == [b"first", bytes(4000)]


async def test_closing_fails_what_still_waits_and_says_what_may_have_been_sent(
    own_redis: RedisServer, wire: Proxy
) -> None:
    async with worker(own_redis.url_of(wire.host, wire.port)) as near:
        await near.append(b"first")
        scripts = own_redis.calls("evalsha")
        wire.stall(Direction.TO_CLIENT)
        written = asyncio.create_task(near.append(b"written"))
        await eventually(lambda: own_redis.calls("evalsha") == scripts + 1)
        waiting = asyncio.create_task(near.append(b"waiting"))
        reading = asyncio.create_task(near.read())
        await asyncio.sleep(0)
    for task, uncertain in ((written, True), (waiting, False), (reading, False)):
        with pytest.raises(AdapterUnavailable, match="was closed") as raised:
            await task
        assert raised.value.uncertain is uncertain
    assert RETENTION.size == 1000
