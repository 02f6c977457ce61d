"""Workers that are killed, and workers that are held for longer than their lease lasts."""

from __future__ import annotations

import signal

from fastapi_rooms import RedisAdapter
from fastapi_rooms.adapters.presence import Entry, Lease
from fastapi_rooms.core.presence import FENCE_TTL
from fastapi_rooms.testing import RedisServer, eventually
from fastapi_rooms.testing.suite.backplane import Station
from fastapi_rooms.testing.suite.people import AT_ONCE, LATER
from tests.integration.servers import Start
from tests.integration.workers import Workers
from tests.presence.scene import Users, assert_successive, key_of, start_worker
from tests.recovery.scene import frozen


async def test_a_killed_workers_members_leave_once_each_and_no_key_is_left(
    users: Users, redis: RedisServer, start: Start
) -> None:
    rooms = ["killed", "soon-killed"]
    victim = start_worker(start, redis.url)
    victim.wait_for_workers()
    people = ["ann", "cem", "dan"]
    sids = []
    for room in rooms:
        await users.comes(0, "bob", room)
        sids += [(await users.comes(victim, user, room)).sid for user in people]
        await users.comes(1, "cem", room)  # who is elsewhere, too, and stays
    node = sids[0][:16]
    assert redis.admin.keys(f"*{node}*")
    made = {room: await users.told_one(room, victim) for room in rooms}
    victim.stop(signal.SIGKILL)
    for room in rooms:
        joins = ["join bob", "join ann", "join cem", "join dan"]

        async def all_have_left(room: str = room) -> bool:
            return len(await users.told(0, room)) >= 6

        await eventually(all_have_left, what="those of the dead worker have left")
        present = await users.present(2, room)
        assert {user: len(tabs) for user, tabs in present.users.items()} == {"bob": 1, "cem": 1}
        await users.comes(0, "eve", room)
        told = await users.told_until(0, room, present.version + 1)
        assert [each.what for each in told[:4]] == joins
        assert sorted(each.what for each in told[4:6]) == ["leave ann", "leave dan"]
        assert [each.what for each in told[6:]] == ["join eve"]
        assert_successive(told)
        assert [*made[room], *(await users.told_one(room))[-3:]] == told
    await eventually(lambda: not redis.admin.keys(f"*{node}*"), what="no key of it is left")
    await users.everyone_goes()
    for room in rooms:

        async def nobody_is_there(room: str = room) -> bool:
            return not (await users.present(0, room)).users

        await eventually(nobody_is_there)
        fence = f"rooms:presence:{{/#{room}}}"
        assert redis.admin.keys(f"*{{/#{room}}}*") == [fence.encode()], "but for the fence"
        assert {*redis.admin.hgetall(fence)} == {b"v", b"f"}
        assert 0 < redis.admin.pttl(fence) <= FENCE_TTL, "for an hour"


async def test_a_worker_thawed_after_its_lease_is_seen_to_leave_and_to_join_again(
    users: Users, workers: Workers, redis: RedisServer
) -> None:
    room, other = "thawed", "thawed-too"
    await users.comes(0, "bob", room)
    await users.comes(0, "bob", other)
    ann = await users.comes(2, "ann", room)
    before = (await users.present(0, room)).version
    lease = Lease(ann.sid[:16], lease_number(redis, ann.sid[:16], room))
    with frozen(workers.pids[2]):
        late = ann.socket.join(other).begin()  # is read when the worker goes on
        told = await users.told_until(0, room, before + 1)
        assert [each.what for each in told] == ["join bob", "join ann", "leave ann"]
        # What it has under way is refused, under the lease that it had.
        station = Station(RedisAdapter(redis.url))
        await station.start()
        try:
            for terms in (AT_ONCE, LATER):
                entry = Entry(ann.sid, "ann")
                changed = await station.adapter.change(key_of(room), lease, terms, enter=[entry])  # type: ignore[attr-defined] # it is a RedisAdapter
                assert changed.fenced
                assert not changed.events
        finally:
            await station.adapter.close()
        assert {*(await users.present(0, room)).users} == {"bob"}
    told = await users.told_until(0, room, before + 2)
    await late
    assert [each.what for each in told][2:] == ["leave ann", "join ann"]
    assert_successive(told)
    await users.one_is_told(room, told)
    await users.hears(0, other, "join bob", "join ann")
    for name in (room, other):
        assert lease_number(redis, lease.node, name) > lease.number, "by a new lease"
        assert (await users.present(1, name)).users["ann"] == [ann.sid]


def lease_number(redis: RedisServer, node: str, room: str) -> int:
    """By which lease a worker has its sockets in a room."""
    found = redis.admin.hget(f"rooms:presence:{{/#{room}}}", f"w{node}")
    assert isinstance(found, bytes), "it has none"
    return int(found.split()[0])


async def test_two_reapers_and_a_late_worker_make_one_leave(users: Users, workers: Workers) -> None:
    """Hundreds of rooms, so that the reapers meet; and the late worker wants them to leave, too."""
    rooms = [f"late-{number}" for number in range(100)]
    watched = rooms[::10]
    for room in watched:
        await users.comes(0, "bob", room)
        await users.comes(1, "cem", room)
    ann = await users.comes(2, "ann", rooms[0])
    await ann.socket.join(*rooms)
    with frozen(workers.pids[2]):
        ann.vanish()
        for room in watched:
            expected = ["join bob", "join cem", "join ann", "leave ann"]
            told = await users.hears(0, room, *expected)
            assert await users.hears(1, room, *expected[1:]) == told[1:]
    dan = await users.comes(2, "dan", rooms[0])
    await dan.socket.join(*rooms)
    for room in watched:
        present = await users.present(0, room)
        told = await users.told_until(0, room, present.version)
        # Between its new lease and hers being over it may put her in, and out again.
        assert_successive(told)
        await users.one_is_told(room, told)
        assert {*present.users} == {"bob", "cem", "dan"}
