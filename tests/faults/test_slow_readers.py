"""Clients that do not read, on any worker: they are given up, and nobody else notices."""

from __future__ import annotations

import asyncio

from fastapi_rooms import OutboxPolicy
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
    async with Cluster(workers=2) as cluster:
        one, two = cluster
        reader = await cluster.member(two, "lobby")
        for _ in range(20):
            (await cluster.member(two, "lobby")).stall()
        clock, longest = asyncio.get_running_loop().time, 0.0
        for _ in range(200):
            begin = clock()
            await one.to("lobby").send_bytes(CHUNK)
            await reader.receive()
            longest = max(longest, clock() - begin)
        assert longest < 0.5  # a tenth of it on a machine that does nothing else


async def test_one_that_may_miss_the_oldest_gets_the_newest() -> None:
    policy = OutboxPolicy(max_bytes=10 * len(CHUNK), overflow="drop_oldest")
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
        assert received[-10:] == sent[-10:]


async def test_one_that_may_miss_the_newest_gets_the_oldest() -> None:
    policy = OutboxPolicy(max_bytes=10 * len(CHUNK), overflow="drop_newest")
    async with Cluster(workers=2, outbox=policy) as cluster:
        one, two = cluster
        mute, reader = await cluster.member(two, "lobby"), await cluster.member(two, "lobby")
        mute.stall()
        sent = [bytes([number]) * len(CHUNK) for number in range(50)]
        for data in sent:
            await one.to("lobby").send_bytes(data)
            await reader.receive()
        dropped = mute.socket.dropped
        assert dropped in (39, 40)
        mute.resume()
        assert [await mute.receive() for _ in range(50 - dropped)] == sent[: 50 - dropped]
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
