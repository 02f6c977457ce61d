"""A room and what leads there are at several nodes of a cluster: who waits for which of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from fastapi_rooms import AdapterUnavailable, RedisClusterAdapter
from fastapi_rooms.adapters.presence import Changed, Entry, RoomChange, RoomKey
from fastapi_rooms.adapters.redis.presence.keys import user_key, workers_key
from fastapi_rooms.testing import RedisCluster, RedisClusterNode, eventually
from fastapi_rooms.testing.suite.backplane import stations
from fastapi_rooms.testing.suite.people import AT_ONCE, Worker, common_room, leaves, told
from tests.conformance.backplanes import left_clean, masters_of
from tests.conformance.test_presence import PresentOnServers

Pair = tuple[Worker, Worker]


@pytest.fixture
async def backplane(redis_cluster: RedisCluster) -> AsyncIterator[PresentOnServers[RedisCluster]]:
    yield PresentOnServers(redis_cluster, lambda it: RedisClusterAdapter(it.url))
    for node in masters_of(redis_cluster):
        node.admin.flushall()
    await left_clean(redis_cluster)


@pytest.fixture
async def pair(backplane: PresentOnServers[RedisCluster]) -> AsyncIterator[Pair]:
    async with stations(backplane, 2) as (one, two):
        workers = Worker(one), Worker(two)
        for worker in workers:
            await worker.beat()
        yield workers


def user_away_from(cluster: RedisCluster, room: RoomKey) -> tuple[str, RedisClusterNode]:
    """A user what leads from whom is at another node than the room and the leases."""
    taken = {cluster.master_of(key) for key in (room.channel, workers_key(b"rooms"))}
    for number in range(100):
        user = f"user-{number}"
        node = cluster.master_of(user_key(b"rooms", b"/", user.encode()))
        if node not in taken:
            return user, node
    raise AssertionError("there is no such user")


class Changing:
    """Changes of one room by a worker, one after the other, and what each has come to."""

    def __init__(self, worker: Worker, room: RoomKey) -> None:
        self.worker = worker
        self.room = room
        self.made: list[Changed | AdapterUnavailable] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, *, enter: Sequence[Entry] = (), leave: Sequence[str] = ()) -> None:
        """Change it, and return when that is done; what leads there may follow."""
        changes, count = [RoomChange(self.room, AT_ONCE, enter, leave)], len(self.made)
        changing = self.worker.adapter.change_rooms(
            self.worker.lease, changes, lambda _, outcome: self.made.append(outcome)
        )
        self.tasks.append(asyncio.create_task(changing))
        await eventually(lambda: len(self.made) > count, what="the room is changed")


async def test_a_join_waits_for_the_node_of_the_room_and_for_no_other(
    redis_cluster: RedisCluster, pair: Pair
) -> None:
    one, two = pair
    room = await common_room([two])
    user, away = user_away_from(redis_cluster, room)
    changing, tab = Changing(one, room), one.new_socket(user)
    await changing.begin(enter=[one.new_socket("warm")])
    await asyncio.gather(*changing.tasks)
    away.freeze()
    try:
        await changing.begin(enter=[tab])
        assert isinstance(changing.made[-1], Changed)
        assert not changing.tasks[-1].done(), "what leads from the user is still to be written"
        assert await two.adapter.is_present(room, user)
        # Who leaves and comes again meanwhile waits for it no more than others.
        await changing.begin(leave=[tab.sid])
        await changing.begin(enter=[tab])
    finally:
        away.thaw()
    await asyncio.gather(*changing.tasks)
    name = room.name.decode().removeprefix("/#")
    assert await two.adapter.rooms_of_user("/", user) == [name]
    await changing.begin(leave=[tab.sid, *(s.sid for s in (await one.snapshot(room))[2])])
    await asyncio.gather(*changing.tasks)
    left = [key for node in masters_of(redis_cluster) for key in node.admin.keys("rooms:*")]
    assert left == [workers_key(b"rooms")]


async def test_who_dies_as_soon_as_somebody_has_joined_is_found_and_nothing_is_left(
    backplane: PresentOnServers[RedisCluster], pair: Pair
) -> None:
    """Nothing was written but the room, and with it that the worker is there."""
    one, two = pair
    rooms = [await common_room([two]) for _ in range(5)]
    dying: asyncio.Task[None] | None = None

    def die(_: int, outcome: Changed | AdapterUnavailable) -> None:
        assert isinstance(outcome, Changed)
        assert dying is not None
        dying.cancel()

    for room in rooms:
        changes = [RoomChange(room, AT_ONCE, [one.new_socket("ann")])]
        dying = asyncio.create_task(one.adapter.change_rooms(one.lease, changes, die))
        with pytest.raises(asyncio.CancelledError):
            await dying
    assert await two.adapter.rooms_of_user("/", "ann") == []
    assert {*await two.adapter.rooms_of(one.lease)} == {room.name for room in rooms}
    for room in rooms:
        assert told((await two.adapter.reap(room, one.lease, AT_ONCE)).events) == leaves("ann")
    await two.adapter.bury(one.lease)
    await two.adapter.bury(two.lease)
    assert not await backplane.kept()


async def test_what_could_not_be_written_makes_a_room_that_is_not_whole_until_it_is_told_again(
    redis_cluster: RedisCluster, pair: Pair
) -> None:
    one, two = pair
    room = await common_room([two])
    broken = user_key(b"rooms", b"/", b"ann")
    redis_cluster.master_of(broken).admin.set(broken, "no set")
    tab = one.new_socket("ann")
    changing = Changing(one, room)
    await changing.begin(enter=[tab])
    await asyncio.gather(*changing.tasks)
    assert isinstance(changing.made[0], Changed)
    assert changing.made[0].failure is None
    (sums,) = await one.adapter.sums(one.lease, [room])
    assert not sums.is_whole
    with pytest.raises(AdapterUnavailable, match="WRONGTYPE"):
        await one.adapter.sync(room, one.lease, AT_ONCE, [tab])
    (sums,) = await one.adapter.sums(one.lease, [room])
    assert not sums.is_whole
    redis_cluster.master_of(broken).admin.delete(broken)
    await one.adapter.sync(room, one.lease, AT_ONCE, [tab])
    (sums,) = await one.adapter.sums(one.lease, [room])
    assert sums.is_whole
    assert await two.adapter.rooms_of_user("/", "ann") == [room.name.decode().removeprefix("/#")]
    await one.leave(room, tab)
