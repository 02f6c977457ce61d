"""Redis is away, comes back empty, or as it was some time ago: nobody leaves who is there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fastapi_rooms import RedisAdapter
from fastapi_rooms.testing import RedisServer, eventually
from fastapi_rooms.testing.suite.backplane import Station
from fastapi_rooms.testing.suite.people import AT_ONCE, Worker
from tests.presence.scene import LEASE, Users, assert_successive, key_of
from tests.recovery.scene import all_ready

PEOPLE = ["ann", "bob", "cem"]


async def everyone_is_back(users: Users, room: str) -> None:
    """Wait until it is known again that everyone is there."""

    async def all_are() -> bool:
        present = await users.present(0, room)
        return {user for user, tabs in present.users.items() if tabs} == {*PEOPLE}

    await eventually(all_are, what="everyone is there")
    await all_ready(users.workers)  # and all hear of it


async def the_dead_are_reaped(users: Users, redis: RedisServer, room: str) -> None:
    """Have a worker come that dies at once, and wait until it was reaped, as any would be."""
    station = Station(RedisAdapter(redis.url))
    await station.start()
    ghost = Worker(station)
    await ghost.beat(0.001)
    await ghost.enter(key_of(room), ghost.new_socket("ghost"), terms=AT_ONCE)
    await station.adapter.close()

    async def has_left() -> bool:
        return [each.what for each in await users.told(0, room)][-1:] == ["leave ghost"]

    await eventually(has_left, what="the ghost has left")


async def come(users: Users, room: str) -> None:
    for worker, user in enumerate(PEOPLE):
        await users.comes(worker, user, room)


async def assert_only_the_ghosts_have_left(users: Users, room: str, ghosts: int) -> None:
    told = await users.told(0, room)
    assert [each.what for each in told[:3]] == [f"join {user}" for user in PEOPLE]
    assert [each.what for each in told[3:]] == ["join ghost", "leave ghost"] * ghosts


def folder(redis: RedisServer) -> Path:
    return Path(redis.command("CONFIG", "GET", "dir")[1].decode())


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_redis_away_for_longer_than_the_lease_makes_nobody_leave(
    users: Users, redis: RedisServer, how: str
) -> None:
    room = f"away-{how}"
    await come(users, room)
    if how == "killed":
        redis.command("SAVE")
        redis.kill()
    else:
        redis.freeze()
    await asyncio.sleep(1.5 * LEASE)
    if how == "killed":
        await asyncio.to_thread(redis.start)
        (folder(redis) / "dump.rdb").unlink()
    else:
        redis.thaw()
    await everyone_is_back(users, room)
    await the_dead_are_reaped(users, redis, room)
    await everyone_is_back(users, room)
    told = await users.told(0, room)
    await assert_only_the_ghosts_have_left(users, room, 1)
    assert_successive(told)


async def test_a_redis_that_has_old_leases_makes_nobody_leave(
    users: Users, redis: RedisServer
) -> None:
    """It is away for a moment only, and comes back with a file that is older than any lease."""
    room = "old"
    await come(users, room)
    redis.command("SAVE")
    await asyncio.sleep(1.5 * LEASE)
    redis.kill()
    await asyncio.to_thread(redis.start)
    (folder(redis) / "dump.rdb").unlink()
    await the_dead_are_reaped(users, redis, room)
    await everyone_is_back(users, room)
    told = await users.told(0, room)
    left = {each.user for each in told if each.kind == "leave"}
    assert left == {"ghost"}, [each.what for each in told]


async def test_five_restarts_in_a_row_emptied_and_not_make_nobody_leave(
    users: Users, redis: RedisServer
) -> None:
    room = "restarts"
    await come(users, room)
    for turn in range(5):
        if turn % 2:
            redis.command("SAVE")
        dump = folder(redis) / "dump.rdb"
        redis.kill()
        if not turn % 2:
            dump.unlink(missing_ok=True)
        await asyncio.to_thread(redis.start)
        await everyone_is_back(users, room)
    (folder(redis) / "dump.rdb").unlink(missing_ok=True)
    await the_dead_are_reaped(users, redis, room)
    await everyone_is_back(users, room)
    await assert_only_the_ghosts_have_left(users, room, 1)
    versions = [each.version for each in await users.told(0, room)]
    assert versions == sorted(versions), "they may jump, and never fall"


async def test_a_redis_that_comes_back_without_its_last_writes_makes_nobody_leave(
    users: Users, redis: RedisServer
) -> None:
    """As after a failover: one user has come, one has gone, and one is on another worker.

    Without a grace the last one would leave, if the worker that had them before is first to tell.
    """
    room = "beats-lost"
    tabs = {user: await users.comes(n, user, room) for n, user in enumerate([*PEOPLE, "dan"])}
    redis.command("SAVE")
    kept = (folder(redis) / "dump.rdb").read_bytes()
    await tabs["dan"].close()
    await users.comes(0, "eve", room)
    moved = await users.comes(2, "bob", room)
    await tabs["bob"].close()
    events = [*(f"join {user}" for user in PEOPLE), "join dan", "join eve", "leave dan"]
    told = await users.hears(0, room, *events)
    place = folder(redis) / "dump.rdb"
    redis.kill()
    place.write_bytes(kept)
    await asyncio.to_thread(redis.start)
    place.unlink()

    async def is_as_it_should_be() -> bool:
        present = await users.present(1, room)
        return {*present.users} == {*PEOPLE, "eve"} and present.users["bob"] == [moved.sid]

    await eventually(is_as_it_should_be)
    await the_dead_are_reaped(users, redis, room)
    assert await is_as_it_should_be()
    later = (await users.told(0, room))[len(told) :]
    assert {each.user for each in later} <= {"dan", "ghost"}, "nobody else is said to come or go"
    assert later[-1].version > told[-1].version
