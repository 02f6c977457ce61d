"""What Redis keeps of a room, in which order, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.testing import Direction, Proxy, RedisServer, eventually
from tests.faults.kept import META, ROOM, STREAM, Worker, numbered, worker


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
