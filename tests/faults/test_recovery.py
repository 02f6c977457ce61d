"""Rooms that remember, where Redis stops, and where a worker cannot keep up.

What is promised in a sentence is shown on real workers, in `tests/recovery`.
"""

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
from tests.framed_client import FramedMember

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


async def test_members_that_speak_the_framing_are_told_what_is_lost_between_before_and_after(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    rooms = _worker(own_redis, gaps)
    async with rooms, FramedMember(rooms, ROOM) as ann, FramedMember(rooms) as elsewhere:
        await rooms.to(ROOM).send_text("before")
        assert await ann.receive() == "before"
        own_redis.command("FLUSHALL")
        await rooms.to(ROOM).send_text("lost on the way")  # it shows that there is a new numbering
        await eventually(lambda: _rooms_of(gaps) == {ROOM})
        await rooms.to(ROOM).send_text("after")
        assert await ann.receive() == "after"
        assert ann.framing.joins == [(ROOM, None), (ROOM, False)]
        assert ann.framing.positions == {ROOM: await rooms.position(ROOM)}
        assert elsewhere.framing.said == 0


async def test_nobody_is_alarmed_of_a_room_that_was_lost_while_nobody_was_in_it(
    own_redis: RedisServer,
) -> None:
    gaps: list[Gap] = []
    rooms = _worker(own_redis, gaps)
    async with rooms:
        async with FramedMember(rooms, ROOM) as ann:
            await rooms.to(ROOM).send_text("seen")
            assert await ann.receive() == "seen"
        await eventually(lambda: ROOM not in rooms.rooms)
        own_redis.command("FLUSHALL")
        async with FramedMember(rooms, ROOM, framing=ann.framing) as ann:
            assert ann.joined is not None
            assert ann.joined.recovered is False
    assert gaps == []
    assert rooms.health.unhealed == 0


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
