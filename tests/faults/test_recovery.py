"""Rooms that remember, on a real Redis that is cut off, emptied, stopped and failed over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable, Gap, RoomManager
from fastapi_rooms.adapters.redis.history import reading
from fastapi_rooms.core import room_log
from fastapi_rooms.testing import Direction, Member, Proxy, RedisServer, eventually
from tests.faults.support import manager, ready

ROOM = "chat-tea"
SIZE = 20_000


def _worker(server: RedisServer, gaps: list[Gap], **options: Any) -> RoomManager:
    rooms = manager(server, **options)
    rooms.history("chat-*", size=SIZE, ttl=600)
    rooms.on("gap")(gaps.append)
    return rooms


def _rooms_of(gaps: Iterable[Gap]) -> set[str]:
    return {room for gap in gaps for room in gap.rooms}


async def _until(member: Member, last: str) -> list[str]:
    return [str(text) for text in await member.receive_until(last)]


async def test_killed_subscribers_are_healed_and_no_member_notices(own_redis: RedisServer) -> None:
    gaps: list[Gap] = []
    one, two = _worker(own_redis, gaps), _worker(own_redis, gaps)
    sent: list[str] = []
    over = asyncio.Event()

    async def talk(rooms: RoomManager, name: str) -> None:
        number = 0
        while not over.is_set():
            text = f"{name} {number}"
            await rooms.to(ROOM).send_text(text)
            sent.append(text)
            number += 1

    async with one, two, Member(one, ROOM, "plain") as ann, Member(two, ROOM) as bob:
        talking = [
            asyncio.create_task(talk(rooms, name)) for rooms, name in ((one, "1"), (two, "2"))
        ]
        for _ in range(8):
            before = len(sent)
            await eventually(lambda before=before: len(sent) > before + 40)  # type: ignore[misc]
            own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        over.set()
        await asyncio.gather(*talking)
        await one.to(ROOM).send_text("end")
        heard = [await _until(member, "end") for member in (ann, bob)]
        assert heard[0] == heard[1]
        assert sorted(heard[0]) == sorted(sent), "everything, and once"
        for name in "12":
            numbers = [int(t.split()[1]) for t in heard[0] if t.startswith(f"{name} ")]
            assert numbers == list(range(len(numbers))), "in order"
        assert ROOM not in _rooms_of(gaps)
        await ready(one, two)
        assert one.health.reconnects + two.health.reconnects > 0


async def test_what_was_said_last_before_a_silence_is_heard_after_the_cut(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    one, two = _worker(own_redis, gaps), _worker(own_redis, gaps)
    async with one, two, Member(two, ROOM) as bob:
        await one.to(ROOM).send_text("before")
        assert await bob.receive() == "before"
        own_redis.command("CLIENT", "KILL", "TYPE", "pubsub")
        await one.to(ROOM).send_text("the last")
        assert await bob.receive() == "the last"
    assert ROOM not in _rooms_of(gaps)


async def test_more_than_is_read_at_once_is_healed_part_by_part(
    own_redis: RedisServer, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, text = 30_000, "x" * 1000
    for module in (room_log, reading):
        monkeypatch.setattr(module, "MAX_BYTES", limit)
    gaps: list[Gap] = []
    one, two = _worker(own_redis, gaps), manager(own_redis, wire)
    two.history("chat-*", size=SIZE, ttl=600)
    two.on("gap")(gaps.append)
    async with one, two, Member(two, ROOM) as bob, two.listen(ROOM) as messages:
        await one.to(ROOM).send_text("before")
        assert await bob.receive() == "before"
        since = bob.socket.position(ROOM)
        wire.stall(Direction.TO_CLIENT)
        sent = [f"{number} {text}" for number in range(300)]
        await asyncio.gather(*(one.to(ROOM).send_text(each) for each in sent))
        wire.cut()
        wire.resume()
        assert [await bob.receive() for _ in sent] == sent
        assert bob.socket.position(ROOM) == await one.position(ROOM)
        assert two.health.healed > 1
        heard = [(await anext(messages)).text for _ in ["before", *sent]]
        assert heard == ["before", *sent]
        recent = await one.recent(ROOM, SIZE)
        assert [message.text for message in recent] == sent[-len(recent) :]
        assert 0 < len(recent) * len(text) < limit
        async with Member(two) as cem:
            joined = await cem.socket.join(ROOM, since=since)
            assert (joined.recovered, joined.replayed) == (False, 0)
    assert ROOM not in _rooms_of(gaps)


async def test_a_redis_that_is_emptied_is_told_once_for_each_room_and_nothing_comes_twice(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    rooms = _worker(own_redis, gaps)
    async with rooms, Member(rooms, ROOM) as ann:
        for number in range(5):
            await rooms.to(ROOM).send_text(f"{number}")
        assert await _until(ann, "4") == ["0", "1", "2", "3"]
        position = ann.socket.position(ROOM)
        own_redis.command("FLUSHALL")
        for number in range(5, 10):
            await rooms.to(ROOM).send_text(f"{number}")
        await eventually(lambda: _rooms_of(gaps) == {ROOM})
        await rooms.to(ROOM).send_text("end")
        heard = await _until(ann, "end")
        assert heard == sorted(heard)
        assert set(heard) <= {"5", "6", "7", "8", "9"}
        assert len(gaps) == 1
        async with Member(rooms) as bob:
            joined = await bob.socket.join(ROOM, since=position)
            assert joined.recovered is False


async def test_a_failover_that_lost_writes_is_told_and_no_position_of_them_is_taken(
    own_redis: RedisServer,
) -> None:
    """The carrier goes back by two messages and on from there, as a replica does that lacked them.

    The stream and the numbering are put back by hand, which is what clients of the old master see
    of it, whatever made it so.
    """
    gaps: list[Gap] = []
    one = _worker(own_redis, gaps)
    async with one, Member(one, ROOM) as ann:
        for number in range(8):
            await one.to(ROOM).send_text(f"{number}")
        saved = {
            key: own_redis.command("DUMP", key) for key in own_redis.command("KEYS", "rooms:*")
        }
        await one.to(ROOM).send_text("lost 1")
        await one.to(ROOM).send_text("lost 2")
        assert await _until(ann, "lost 2") == [*map(str, range(8)), "lost 1"]
        position = ann.socket.position(ROOM)
        for key, value in saved.items():
            own_redis.command("RESTORE", key, "600000", value, "REPLACE")
        for number in range(3):
            await one.to(ROOM).send_text(f"new {number}")
        await eventually(lambda: _rooms_of(gaps) == {ROOM})
        await one.to(ROOM).send_text("end")
        heard = await _until(ann, "end")
        assert heard == [f"new {n}" for n in range(3 - len(heard), 3)]
        async with Member(one) as bob:
            joined = await bob.socket.join(ROOM, since=position)
            assert joined.recovered is False, "its offset exists again, for another message"


async def test_an_outage_of_redis_leaves_nobody_with_half_of_it(own_redis: RedisServer) -> None:
    gaps: list[Gap] = []
    one = _worker(own_redis, gaps, publish_timeout=0.3)
    two = _worker(own_redis, gaps, publish_timeout=0.3)
    async with one, two, Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        await one.to(ROOM).send_text("before")
        assert await ann.receive() == await bob.receive() == "before"
        own_redis.freeze()
        with pytest.raises(AdapterUnavailable) as refusal:
            await one.to(ROOM).send_text("perhaps")
        own_redis.thaw()
        await ready(one, two)
        await one.to(ROOM).send_text("after")
        heard = [await _until(member, "after") for member in (ann, bob)]
        assert heard[0] == heard[1]
        assert heard[0] in ([], ["perhaps"])
        if not refusal.value.uncertain:
            assert heard[0] == []


async def test_a_script_cache_that_is_lost_changes_neither_order_nor_count(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    rooms = _worker(own_redis, gaps)
    async with rooms, Member(rooms, ROOM) as ann:
        for number in range(100):
            if number % 7 == 0:
                own_redis.command("SCRIPT", "FLUSH")
            await asyncio.gather(
                *(rooms.to(ROOM).send_text(f"{number}.{part}") for part in range(3))
            )
        await rooms.to(ROOM).send_text("end")
        heard = await _until(ann, "end")
        assert heard == [f"{number}.{part}" for number in range(100) for part in range(3)]
    assert not gaps


async def test_a_worker_that_cannot_keep_up_reads_what_it_had_no_room_for(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    one, two = _worker(own_redis, gaps), manager(own_redis)
    slow = RoomManager(own_redis.url, max_lag=0.0005)
    for rooms in (two, slow):
        rooms.history("chat-*", size=SIZE, ttl=600)
    slow.on("gap")(gaps.append)
    async with one, slow:
        members = [Member(slow, ROOM) for _ in range(40)]
        for member in members:
            await member.open()
        for _ in range(6):
            await asyncio.gather(*(one.to(ROOM).send_text("x" * 2_000) for _ in range(50)))
        await one.to(ROOM).send_text("end")
        for member in members:
            assert len(await member.receive_until("end")) == 300
        for member in members:
            await member.close()
    assert ROOM not in _rooms_of(gaps)
