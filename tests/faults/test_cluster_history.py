"""Rooms that remember, on a Redis Cluster whose slots move and whose masters fail."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable, Gap, RedisClusterAdapter, RoomManager
from fastapi_rooms.adapters.redis.history import lane
from fastapi_rooms.testing import Member, RedisCluster, RedisClusterNode, eventually
from tests.faults.support import ready, talking

SIZE = 20_000
ROOM = "chat-tea"
CHANNEL = f"rooms#{{/#{ROOM}}}#"


@pytest.fixture(scope="module")
def masters() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def plain(masters: RedisCluster) -> Iterator[RedisCluster]:
    """Three masters that have no replicas, and are empty."""
    yield masters
    for node in masters.nodes:
        node.command("FLUSHALL")


@pytest.fixture
def replicated() -> Iterator[RedisCluster]:
    """Three masters with a replica each."""
    with RedisCluster(replicas=1, node_timeout=1000) as cluster:
        yield cluster


def worker(cluster: RedisCluster, gaps: list[Gap], **options: Any) -> RoomManager:
    rooms = RoomManager(RedisClusterAdapter(cluster.url, **options), linger=0.05)
    rooms.history("chat-*", size=SIZE, ttl=600)
    rooms.on("gap")(gaps.append)
    return rooms


def rooms_of(gaps: Iterable[Gap]) -> set[str]:
    return {room for gap in gaps for room in gap.rooms}


async def until(member: Member, last: str) -> list[str]:
    return [str(text) for text in await member.receive_until(last)]


def others(cluster: RedisCluster, channel: str) -> list[RedisClusterNode]:
    """The masters that do not serve a channel."""
    owner = cluster.master_of(channel)
    return [node for node in cluster.nodes[:3] if node is not owner]


def assert_each_in_order(heard: list[str], names: str) -> None:
    for name in names:
        numbers = [int(text[1:]) for text in heard if text.startswith(name)]
        assert numbers == sorted(set(numbers)), "in order, and none twice"


async def test_a_slot_that_moves_to_and_fro_in_full_flow_loses_and_doubles_nothing(
    plain: RedisCluster,
) -> None:
    gaps: list[Gap] = []
    one, two = worker(plain, gaps), worker(plain, gaps)
    slot = plain.slot_of(CHANNEL)
    async with one, two, Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        async with talking(one, ROOM, "a") as first, talking(two, ROOM, "b") as second:
            for _ in range(6):
                await asyncio.to_thread(plain.move, slot, others(plain, CHANNEL)[0])
                await first.goes_on()
                await second.goes_on()
        assert first.refused == second.refused == []
        await one.to(ROOM).send_text("end")
        heard = [await until(member, "end") for member in (ann, bob)]
        assert heard[0] == heard[1]
        assert sorted(heard[0]) == sorted(first.accepted + second.accepted)
        assert_each_in_order(heard[0], "ab")
        assert [message.text for message in await two.recent(ROOM, SIZE)] == [*heard[0], "end"]
        assert ROOM not in rooms_of(gaps)


async def test_a_slot_that_moves_during_a_replay_loses_and_doubles_nothing(
    plain: RedisCluster,
) -> None:
    gaps: list[Gap] = []
    one = worker(plain, gaps)
    slot = plain.slot_of(CHANNEL)
    async with one:
        start = await one.position(ROOM)
        sent: list[str] = []
        for _ in range(6):
            moving = asyncio.create_task(
                asyncio.to_thread(plain.move, slot, others(plain, CHANNEL)[0])
            )
            resumed: list[Member] = []
            while not moving.done() or len(resumed) < 3:
                async with worker(plain, gaps) as two:  # which has to read
                    member = Member(two)
                    await member.open()
                    numbers = [str(len(sent) + n) for n in range(3)]
                    sent += numbers
                    sending = asyncio.gather(*(one.to(ROOM).send_text(text) for text in numbers))
                    assert (await member.socket.join(ROOM, since=start)).recovered
                    await sending
                    assert [await member.receive() for _ in sent] == sent
                    await member.close()
                resumed.append(member)
            await moving
        assert ROOM not in rooms_of(gaps)


async def test_what_a_slot_half_moved_cannot_take_waits_and_goes_on_in_order(
    plain: RedisCluster,
) -> None:
    gaps: list[Gap] = []
    one = worker(plain, gaps, publish_timeout=20)
    source, target = plain.master_of(CHANNEL), others(plain, CHANNEL)[0]
    slot = ("CLUSTER", "SETSLOT", str(plain.slot_of(CHANNEL)))
    async with one, Member(one, ROOM) as ann:
        await one.to(ROOM).send_text("before")
        position = await one.position(ROOM)
        target.command(*slot, "IMPORTING", source.id)
        source.command(*slot, "MIGRATING", target.id)
        source.migrate([f"rooms:meta:{{/#{ROOM}}}".encode()], target)  # and not the stream
        adapter = one._runtime.adapter
        assert isinstance(adapter, RedisClusterAdapter)
        sending = [asyncio.create_task(one.to(ROOM).send_text(f"{n}")) for n in range(20)]
        reading = asyncio.create_task(one.recent(ROOM))
        await eventually(lambda: source.calls("evalsha") + adapter.health.buffered > 0)
        await asyncio.to_thread(plain.move, plain.slot_of(CHANNEL), target)
        await asyncio.gather(*sending)
        await one.to(ROOM).send_text("end")
        assert await until(ann, "end") == ["before", *map(str, range(20))]
        assert (await reading)[0].text == "before"
        async with Member(one) as bob:
            joined = await bob.socket.join(ROOM, since=position)
            assert (joined.recovered, joined.replayed) == (True, 21)
        assert ROOM not in rooms_of(gaps)


async def test_a_planned_failover_loses_and_doubles_nothing(replicated: RedisCluster) -> None:
    gaps: list[Gap] = []
    one, two = worker(replicated, gaps), worker(replicated, gaps)
    master = replicated.master_of(CHANNEL)
    async with one, two, Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        async with talking(one, ROOM, "a") as first, talking(two, ROOM, "b") as second:
            replicated.replica_of(master).command("CLUSTER", "FAILOVER")
            await eventually(lambda: replicated.taken_over(master, CHANNEL), 20)
            await first.goes_on()
            await second.goes_on()
        assert first.refused == second.refused == []
        await one.to(ROOM).send_text("end")
        heard = [await until(member, "end") for member in (ann, bob)]
        assert heard[0] == heard[1]
        assert sorted(heard[0]) == sorted(first.accepted + second.accepted)
        assert_each_in_order(heard[0], "ab")
        assert ROOM not in rooms_of(gaps)


async def test_a_killed_master_is_followed_and_what_was_lost_with_it_is_told(
    replicated: RedisCluster,
) -> None:
    gaps: list[Gap] = []
    one, two = (worker(replicated, gaps, publish_timeout=20) for _ in range(2))
    master = replicated.master_of(CHANNEL)
    async with one, two, Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        async with talking(one, ROOM, "a") as first, talking(two, ROOM, "b") as second:
            master.kill()
            await eventually(lambda: replicated.taken_over(master, CHANNEL), 20)
            await first.goes_on()
            await second.goes_on()
        assert first.refused == second.refused == []
        await one.to(ROOM).send_text("end")
        heard = [await until(member, "end") for member in (ann, bob)]
        for texts in heard:
            assert_each_in_order(texts, "ab")
            if sorted(texts) != sorted(first.accepted + second.accepted):
                assert ROOM in rooms_of(gaps)
        await ready(one, two)


async def test_writes_that_a_failover_lost_are_told_and_no_position_of_them_is_taken(
    replicated: RedisCluster,
) -> None:
    gaps: list[Gap] = []
    one = worker(replicated, gaps, publish_timeout=20)
    master = replicated.master_of(CHANNEL)
    replica = replicated.replica_of(master)

    def is_in_step() -> bool:
        there = replica.admin.info("replication")["slave_repl_offset"]
        return bool(there == master.admin.info("replication")["master_repl_offset"])

    async with one, Member(one, ROOM) as ann:
        for number in range(8):
            await one.to(ROOM).send_text(f"{number}")
        safe = await one.position(ROOM)
        await eventually(is_in_step)
        replica.freeze()
        master.command("CLIENT", "KILL", "TYPE", "replica")
        await one.to(ROOM).send_text("lost 1")
        await one.to(ROOM).send_text("lost 2")
        assert await until(ann, "lost 2") == [*map(str, range(8)), "lost 1"]
        lost = ann.socket.position(ROOM)
        master.kill()
        replica.thaw()
        await eventually(lambda: replicated.taken_over(master, CHANNEL), 20)
        for number in range(3):
            await one.to(ROOM).send_text(f"new {number}")
        await eventually(lambda: rooms_of(gaps) == {ROOM})
        await one.to(ROOM).send_text("end")
        heard = await until(ann, "end")
        assert heard == [f"new {n}" for n in range(3 - len(heard), 3)]
    async with worker(replicated, gaps) as two:
        for position, recovered in ((lost, False), (safe, True)):
            async with Member(two) as bob:
                joined = await bob.socket.join(ROOM, since=position)
                assert joined.recovered is recovered


async def test_a_message_for_a_slot_that_nobody_serves_is_refused_in_time(
    plain: RedisCluster,
) -> None:
    one = worker(plain, [], publish_timeout=0.3)
    async with one:
        await one.to(ROOM).send_text("before")
        master = plain.master_of(CHANNEL)
        master.command("CLUSTER", "DELSLOTS", str(plain.slot_of(CHANNEL)))
        try:
            for refused in (one.to(ROOM).send_text("lost"), one.recent(ROOM)):
                with pytest.raises(AdapterUnavailable) as refusal:
                    await refused
                assert not refusal.value.uncertain
        finally:
            master.command("CLUSTER", "ADDSLOTS", str(plain.slot_of(CHANNEL)))
        await ready(one)
        await one.to(ROOM).send_text("after")
        assert one.health.buffered == 0


RIGHTS = (
    *("&rooms#*", "~rooms:*", "-@all", "+spublish", "+ssubscribe", "+sunsubscribe"),
    *("+cluster|slots", "+eval", "+evalsha", "+hmget", "+hset", "+hsetnx", "+pexpire"),
    *("+xadd", "+xrange", "+xrevrange", "+hgetall", "+hdel", "+del"),
)


async def test_a_user_needs_no_more_rights_than_documented_and_is_told_which_are_missing(
    plain: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "FORBIDDEN_DELAY", 0.05)

    def rules(*rules: str) -> None:
        for node in plain.nodes:
            node.command("ACL", "SETUSER", "some", *rules)

    rules("on", ">secret", "resetkeys", "resetchannels", *RIGHTS, "-xadd", "-hset")
    rooms = RoomManager(plain.url.replace("//", "//some:secret@"))
    rooms.history("chat-*")
    names = [f"chat-{number}" for number in range(20)]
    assert len({plain.master_of(f"rooms#{{/#{name}}}#").port for name in names}) == 3
    async with rooms, Member(rooms, "plain") as ann:
        await rooms.to("plain").send_text("is not affected")
        assert await ann.receive() == "is not affected"
        for name in names:
            with pytest.raises(AdapterUnavailable, match=r"ACL SETUSER <user> \+hset \+xadd"):
                await rooms.to(name).send_text("hello")
        rules(*RIGHTS)

        async def is_allowed() -> bool:
            with suppress(AdapterUnavailable):
                for name in names:
                    await rooms.to(name).send_text("hello")
                return True
            return False

        await eventually(is_allowed)
        for name in names:
            assert (await rooms.recent(name))[-1].text == "hello"
            await rooms.clear_history(name)


async def test_a_worker_has_a_third_connection_to_masters_where_rooms_remember(
    plain: RedisCluster,
) -> None:
    async with RoomManager(plain.url) as without, Member(without, "plain"):
        await without.to("plain").send_text("hello")
        before = len(plain.connections("normal"))
    await eventually(lambda: not plain.connections())
    async with worker(plain, []) as one, Member(one, "plain"):
        await one.to("plain").send_text("hello")
        await one.to(ROOM).send_text("hello")
        await one.recent(ROOM)
        assert before < len(plain.connections("normal")) <= before + len(list(plain.nodes))
        assert plain.master_of(CHANNEL).calls("spublish") > 0
    await eventually(lambda: not plain.connections())
