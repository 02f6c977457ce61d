"""Tabs, reloads, and a room that churns: what is told of users, on three workers.

All of it on one Redis, and on a Redis Cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from fastapi_rooms.testing import RedisCluster
from tests.conformance.backplanes import emptied
from tests.integration.clients import http
from tests.integration.servers import starter
from tests.integration.workers import Workers
from tests.presence.scene import HOUR, There, Users, assert_successive, three_workers


@pytest.fixture(scope="module", params=["redis", "cluster"])
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """The workers of this folder; and three like them, on a cluster."""
    if request.param == "redis":
        yield request.getfixturevalue("servers")
        return
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    with emptied(cluster), starter(tmp_path_factory.mktemp("servers")) as start:
        yield three_workers(start, cluster.url)


async def test_two_tabs_make_one_join_and_the_last_to_close_makes_one_leave(users: Users) -> None:
    room = "tabs"
    await users.comes(0, "bob", room)
    await users.comes(1, "cem", room)
    first = await users.comes(1, "ann", room)
    second = await users.comes(2, "ann", room)
    present = await users.present(2, room)
    assert {user: len(sids) for user, sids in present.users.items()} == {
        "bob": 1,
        "cem": 1,
        "ann": 2,
    }
    assert sorted(present.users["ann"]) == sorted([first.sid, second.sid])
    await first.close()
    await users.comes(0, "dan", room)  # by whose join it is known that nothing was told before
    joins = ["join bob", "join cem", "join ann", "join dan"]
    await users.hears(0, room, *joins)
    await second.close()
    told = await users.hears(0, room, *joins, "leave ann")
    assert_successive(told)
    await users.hears(1, room, *joins[1:], "leave ann")
    await users.hears(2, room, "join dan")  # all that there was while somebody was there
    await users.one_is_told(room, told)


async def test_a_reload_within_the_grace_makes_no_event(users: Users) -> None:
    room = "later-reload"
    await users.comes(0, "bob", room)
    for worker in (1, 1, 2, 0):
        tab = await users.comes(worker, "ann", room)
        await tab.close()
        assert "ann" in (await users.present(worker, room)).users
    await users.comes(0, "cem", room)
    told = await users.hears(0, room, "join bob", "join ann", "join cem")
    assert_successive(told)
    await users.one_is_told(room, told)


async def test_a_grace_that_is_over_makes_a_leave_whoever_was_the_last_to_see_them(
    users: Users,
) -> None:
    room = "soon-gone"
    await users.comes(0, "bob", room)
    events = ["join bob"]
    for worker in (1, 2):
        tab = await users.comes(worker, "ann", room)
        await tab.close()
        events += ["join ann", "leave ann"]
        await users.hears(0, room, *events)
    told = await users.told(0, room)
    assert_successive(told)
    await users.one_is_told(room, told)


async def test_workers_whose_clocks_differ_by_an_hour_agree(users: Users, workers: Workers) -> None:
    """All tests of this folder have such workers. Leases and graces are by Redis' clock alone."""
    clocks = [await http(workers.server(number), "/clock") for number in range(3)]
    assert clocks[1] - clocks[0] > HOUR / 2
    assert clocks[0] - clocks[2] > HOUR / 2
    room = "soon-clocks"
    people = ["ann", "bob", "cem"]
    tabs = [await users.comes(number, user, room) for number, user in enumerate(people)]
    await users.comes(0, "dan", room)
    versions = {(await users.present(number, room)).version for number in range(3)}
    assert len(versions) == 1
    for number in (1, 2):  # their graces end neither an hour early nor an hour late
        await tabs[number].close()
        assert people[number] in (await users.present(0, room)).users
    told = [each.what for each in await users.told(0, room)]
    joins = [*(f"join {user}" for user in people), "join dan"]
    await users.hears(0, room, *joins, "leave bob", "leave cem")
    assert told[:4] == joins


async def test_a_snapshot_and_its_diffs_miss_nobody_in_a_room_that_churns(users: Users) -> None:
    room = "churns"
    await users.comes(0, "watcher", room)
    is_over = False

    async def comes_and_goes(worker: int, user: str, times: int) -> None:
        for turn in range(times):
            tab = await users.comes((worker + turn) % 3, user, room)
            await tab.close()
        await users.comes(worker, user, room)

    async def look(worker: int, snapshots: list[There]) -> None:
        while not is_over:
            snapshots.append(await users.present(worker, room))
            await asyncio.sleep(0.01)

    snapshots: list[There] = []
    looking = [asyncio.create_task(look(worker, snapshots)) for worker in range(3)]
    await asyncio.gather(*(comes_and_goes(n, f"user-{n}", 5 + n) for n in range(8)))
    is_over = True
    await asyncio.gather(*looking)
    present = await users.present(1, room)
    assert {*present.users} == {"watcher", *(f"user-{n}" for n in range(8))}
    told = await users.told_until(0, room, present.version)
    assert_successive(told)
    await users.one_is_told(room, told)
    assert len({snapshot.version for snapshot in snapshots}) > 5, "it has churned meanwhile"
    for snapshot in snapshots:
        there = {*snapshot.users}
        for each in told:
            if each.version > snapshot.version:
                (there.add if each.kind == "join" else there.discard)(each.user)
        assert there == {*present.users}, f"from {snapshot} on"
