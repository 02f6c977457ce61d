"""Three workers on a Redis Cluster of three masters, whose slots move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fastapi_rooms.testing import RedisCluster
from tests.integration.clients import Client
from tests.integration.servers import starter
from tests.integration.speakers import speaking
from tests.integration.workers import Workers
from tests.recovery.conftest import NewPerson
from tests.recovery.scene import assert_all_heard_all, gaps_in, three_workers


@pytest.fixture(scope="module")
def servers(
    redis_cluster: RedisCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Its workers, in place of those on one Redis."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield three_workers(start, redis_cluster.url)


async def test_a_slot_that_moves_during_replay_loses_nothing(
    redis_cluster: RedisCluster, workers: Workers, person: NewPerson, voices: list[Client]
) -> None:
    """Somebody comes again and again, to workers that have to read, while it moves to and fro."""
    room = "moving"
    channel = f"rooms#{{/#{room}}}#"
    slot = redis_cluster.slot_of(channel)
    staying, coming = person(room), person(room)
    await staying.comes(0)
    await coming.comes(1)
    home = redis_cluster.master_of(channel)
    async with speaking(*[voice.rooms.to(room) for voice in voices]) as speakers:
        reads, resumed = sum(node.calls("xrange") for node in redis_cluster.nodes), 0
        away = next(node for node in redis_cluster.nodes if node is not home)
        for target in (away, home, away, home):
            moving = asyncio.create_task(asyncio.to_thread(redis_cluster.move, slot, target))
            visits = 0
            while not moving.done() or visits < 3:
                await coming.is_cut_off()
                await speakers[0].goes_on()
                await coming.comes(1 + resumed % 2)
                assert coming.recovered is True
                resumed, visits = resumed + 1, visits + 1
            await moving
    end = await voices[0].rooms.position(room)
    for somebody in (staying, coming):
        await somebody.is_at(end)
    assert_all_heard_all([staying, coming], speakers)
    assert sum(node.calls("xrange") for node in redis_cluster.nodes) - reads >= resumed
    for number in range(3):
        assert await gaps_in(workers, number, room) == 0
