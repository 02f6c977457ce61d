"""Who is present on a Redis Cluster whose slots move, and whose masters die."""

from __future__ import annotations

import asyncio

from fastapi_rooms import RedisClusterAdapter
from fastapi_rooms.testing import RedisCluster, eventually
from fastapi_rooms.testing.suite.backplane import stations
from fastapi_rooms.testing.suite.people import AT_ONCE, Worker, common_room, present_after
from tests.conformance.test_presence import PresentOnServers


async def test_who_comes_and_goes_while_a_slot_moves_is_told_once() -> None:
    with RedisCluster() as cluster:
        backplane = PresentOnServers(cluster, lambda c: RedisClusterAdapter(c.url))
        async with stations(backplane, 2) as (near, far):
            one, two = Worker(near), Worker(far)
            for worker in (one, two):
                await worker.beat()
            room = await common_room([two])
            slot = cluster.slot_of(room.channel.decode())
            stays, is_moving, rounds = two.new_socket("stays"), True, 0
            await two.enter(room, stays)

            async def come_and_go() -> None:
                nonlocal rounds
                while is_moving:
                    sockets = [one.new_socket(f"user {number}") for number in range(3)]
                    await one.enter(room, *sockets)
                    assert await two.adapter.is_present(room, "user 0")
                    await one.leave(room, *sockets)
                    rounds += 1

            coming = asyncio.create_task(come_and_go())
            for _ in range(4):
                before, home = rounds, cluster.master_of(room.channel.decode())
                other = next(node for node in cluster.nodes if node is not home)
                await asyncio.to_thread(cluster.move, slot, other)
                await eventually(lambda before=before: rounds > before)  # type: ignore[misc]
            is_moving = False
            await coming
            assert (await two.snapshot(room))[1:] == ({"stays"}, {stays})
            (sums,) = await two.adapter.sums(two.lease, [room])
            assert (sums.sockets, sums.is_whole) == (1, True)
            told = sums.version

            async def hears_again() -> bool:
                """What is told while the subscription moves with the slot is in a gap."""
                once_more = one.new_socket("once more")
                await one.enter(room, once_more)
                await one.leave(room, once_more)
                return any(event.version > told for event in two.heard(room))

            await eventually(hears_again)
            made = (await two.adapter.change(room, two.lease, AT_ONCE, leave=[stays.sid])).events
            assert made[-1] == (await two.heard_until(room, made[-1].version))[-1]
            if not two.station.gaps:
                assert present_after(two.heard(room)) == set()
            assert await two.adapter.rooms_of_user("/", "user 0") == []
            for worker in (one, two):
                await worker.adapter.bury(worker.lease)
        assert not await backplane.kept()
