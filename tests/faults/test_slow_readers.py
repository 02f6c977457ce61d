"""Clients that do not read, on any worker: they are given up, and nobody else notices."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Literal, NoReturn

import pytest

from fastapi_rooms import OutboxPolicy
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.testing import Cluster, Member, eventually

CHUNK = b"x" * 16 * 1024


async def test_a_mute_reader_is_closed_at_its_limit_and_the_others_get_everything() -> None:
    async with Cluster(workers=2, outbox=OutboxPolicy(max_bytes=256 * 1024)) as cluster:
        one, two = cluster
        readers = [await cluster.member(worker, "lobby") for worker in (one, two)]
        mutes = [await cluster.member(worker, "lobby") for worker in (one, two) for _ in range(5)]
        for mute in mutes:
            mute.stall()
        for _ in range(512):
            await one.to("lobby").send_bytes(CHUNK)
            assert all(mute.socket.pending <= 256 * 1024 for mute in mutes)
        for reader in readers:
            assert [await reader.receive() for _ in range(512)] == [CHUNK] * 512
        await eventually(lambda: len(one.sids) == len(two.sids) == 1)
        for mute in mutes:
            mute.resume()
            assert await mute.wait_closed() == 1013


async def test_a_mute_reader_holds_up_nobody_for_a_moment() -> None:
    turns = count()

    async def take_turns() -> NoReturn:
        while True:
            next(turns)
            await asyncio.sleep(0)

    async with Cluster(workers=2) as cluster:
        one, two = cluster
        reader = await cluster.member(two, "lobby")
        for _ in range(20):
            (await cluster.member(two, "lobby")).stall()
        # Whatever waits for a time, however short, lets the event loop take thousands of turns.
        turning = asyncio.create_task(take_turns())
        for _ in range(200):
            begin = next(turns)
            await one.to("lobby").send_bytes(CHUNK)
            await reader.receive()
            assert next(turns) - begin < 100
        turning.cancel()


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_one_that_may_miss_the_oldest_or_the_newest_gets_all_others(
    overflow: Literal["drop_oldest", "drop_newest"],
) -> None:
    policy = OutboxPolicy(max_bytes=10 * (len(CHUNK) + ENTRY_BYTES), overflow=overflow)
    async with Cluster(workers=2, outbox=policy) as cluster:
        one, two = cluster
        mute, reader = await cluster.member(two, "lobby"), await cluster.member(two, "lobby")
        mute.stall()
        sent = [bytes([number]) * len(CHUNK) for number in range(50)]
        for data in sent:
            await one.to("lobby").send_bytes(data)
            await reader.receive()
        dropped = mute.socket.dropped
        assert dropped in (39, 40)  # one may be on its way already
        mute.resume()
        received = [await mute.receive() for _ in range(50 - dropped)]
        if overflow == "drop_oldest":
            assert received[-10:] == sent[-10:]
        else:
            assert received == sent[: 50 - dropped]
        await one.to("lobby").send_text("now that you read")
        assert await mute.receive() == "now that you read"


async def test_a_reader_that_goes_while_it_is_mute_leaves_nothing() -> None:
    tasks = len(asyncio.all_tasks())
    async with Cluster(workers=1) as cluster:
        async with Member(cluster[0], "lobby") as mute:
            mute.stall()
            await cluster[0].to("lobby").send_bytes(CHUNK)
            await cluster[0].to("lobby").send_bytes(CHUNK)
        assert not cluster[0].sids
    assert len(asyncio.all_tasks()) == tasks
