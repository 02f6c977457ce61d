"""Emitters and rooms that remember, on a Redis Cluster whose slots move and whose masters fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter, RoomManager
from fastapi_rooms.adapters.redis.declared import known
from fastapi_rooms.adapters.redis.emit_clients import senders
from fastapi_rooms.adapters.redis.history import emitted
from fastapi_rooms.testing import Member, RedisCluster, RedisClusterNode, eventually
from tests.emitters import AnyEmitter, done

KINDS = [Emitter, AsyncEmitter]
ROOM = "chat-tea"
KEY = "rooms:declared"


def channel(room: str) -> str:
    return f"rooms#{{/#{room}}}#"


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


def worker(cluster: RedisCluster) -> RoomManager:
    rooms = RoomManager(cluster.url, linger=0.05)
    rooms.history("chat-*", size=5000, ttl=600)
    return rooms


@asynccontextmanager
async def emitting(emitter: AnyEmitter) -> AsyncIterator[list[str]]:
    """Emit numbers without a pause, until the block ends; those that were accepted."""
    accepted: list[str] = []
    is_over = False

    async def emit() -> None:
        number = 0
        while not is_over:
            text, number = str(number), number + 1
            if isinstance(emitter, AsyncEmitter):
                await emitter.to(ROOM).send_text(text)
            else:
                await asyncio.to_thread(emitter.to(ROOM).send_text, text)
            accepted.append(text)

    task = asyncio.create_task(emit())
    try:
        yield accepted
    finally:
        is_over = True
        await task
        await done(emitter.close())


async def goes_on(accepted: list[str]) -> None:
    enough = len(accepted) + 20
    await eventually(lambda: len(accepted) >= enough, 20)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_slot_that_moves_in_full_flow_loses_and_doubles_nothing(
    kind: type[AnyEmitter], plain: RedisCluster
) -> None:
    async with worker(plain) as rooms, Member(rooms, ROOM) as ann:
        async with emitting(kind(plain.url)) as accepted:
            for _ in range(3):
                await goes_on(accepted)
                owner = plain.master_of(channel(ROOM))
                target = next(node for node in plain.nodes if node is not owner)
                await asyncio.to_thread(plain.move, plain.slot_of(channel(ROOM)), target)
            await goes_on(accepted)
        assert [await ann.receive() for _ in accepted] == accepted
        assert [m.text for m in await rooms.recent(ROOM, 5000)] == accepted


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_slot_half_moved_cannot_take_waits_longer_than_clients_do(
    kind: type[AnyEmitter], plain: RedisCluster
) -> None:
    """redis-py gives up after half a second."""
    async with worker(plain) as rooms:
        await rooms.to(ROOM).send_text("before")
        source, slot = plain.master_of(channel(ROOM)), plain.slot_of(channel(ROOM))
        target = next(node for node in plain.nodes if node is not source)
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", target.id)
        source.migrate([f"rooms:meta:{{/#{ROOM}}}".encode()], target)  # and not the stream
        emitter = kind(plain.url, timeout=20)
        before = rejected(plain)
        if isinstance(emitter, AsyncEmitter):
            sending = asyncio.ensure_future(emitter.to(ROOM).send_text("after"))
        else:
            sending = asyncio.ensure_future(asyncio.to_thread(emitter.to(ROOM).send_text, "after"))
        await eventually(lambda: rejected(plain) - before > 20)
        await asyncio.to_thread(plain.move, slot, target)
        await sending
        assert [m.text for m in await rooms.recent(ROOM)] == ["before", "after"]
        await done(emitter.close())


def rejected(cluster: RedisCluster) -> int:
    """How many times the script was refused since the nodes have started."""
    statistics = (n.admin.info("commandstats").get("cmdstat_evalsha", {}) for n in cluster.nodes)
    return sum(int(each.get("rejected_calls", 0)) for each in statistics)


async def test_declarations_go_with_their_slot(
    plain: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.worker.declaring.REPEAT", 0.02)
    monkeypatch.setattr(known, "READ_INTERVAL", 0.0)
    async with worker(plain) as rooms, AsyncEmitter(plain.url) as emitter:
        for number in range(3):
            owner = plain.master_of(KEY)
            target = next(node for node in plain.nodes if node is not owner)
            await asyncio.to_thread(plain.move, plain.slot_of(KEY), target)
            await emitter.to(ROOM).send_text(f"{number}")
            target.command("DEL", KEY)
            await eventually(lambda node=target: node.command("EXISTS", KEY))  # type: ignore[misc]  # bound now
        assert [m.text for m in await rooms.recent(ROOM)] == ["0", "1", "2"]


async def test_when_a_master_fails_what_was_accepted_is_kept_once_and_in_order() -> None:
    with RedisCluster(replicas=1, node_timeout=1000) as cluster:
        master = cluster.master_of(KEY)
        rooms_of = [f"chat-{n}" for n in range(100)]
        here = next(name for name in rooms_of if cluster.master_of(channel(name)) is master)
        there = next(name for name in rooms_of if cluster.master_of(channel(name)) is not master)
        async with worker(cluster) as rooms, AsyncEmitter(cluster.url, timeout=5) as emitter:
            accepted, tried = list[str](), list[str]()

            async def emit() -> bool:
                text = str(len(tried))
                tried.append(text)
                with suppress(AdapterUnavailable):
                    await emitter.to(here).send_text(text)
                    accepted.append(text)
                    return True
                return False

            for _ in range(10):
                assert await emit()
            await eventually(lambda: is_in_step(cluster, master))
            master.kill()
            emitter_history(emitter)._known.doubt()
            await emitter.to(there).send_text("not at the node that failed")
            await eventually(lambda: cluster.taken_over(master, KEY), 20)
            for _ in range(10):
                await eventually(emit, 20)
            texts = [m.text for m in await rooms.recent(here, 5000)]
            assert texts == sorted(set(texts), key=int), "in order, and none twice"
            assert set(accepted) <= set(texts) <= set(tried)
            assert len(await rooms.recent(there)) == 1
            assert rooms.health.unkept == 0


def emitter_history(emitter: AsyncEmitter) -> emitted.EmittedHistory:
    (sender,) = emitter._senders.values()
    assert isinstance(sender, senders.AsyncSender)
    return sender._history


def is_in_step(cluster: RedisCluster, master: RedisClusterNode) -> bool:
    """Whether the replica of a master has all that was written."""
    there = cluster.replica_of(master).admin.info("replication")["slave_repl_offset"]
    return bool(there == master.admin.info("replication")["master_repl_offset"])
