"""Who is told of users that come and go, and when."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable, PresenceEvent, Present, RoomManager, UsageError
from fastapi_rooms.testing import RedisServer, eventually
from tests.faults.presence.scene import GRACE, ROOM, Member, Workers


async def test_everyone_who_has_members_is_told_once(
    everywhere: Workers,
) -> None:
    workers = everywhere
    async with workers.member(0, "ann"), workers.member(1, "bob"):
        async with workers.member(1, "ann"), workers.member(1, "cem"):
            await eventually(lambda: workers.told[0] == ["join ann", "join bob", "join cem"])
            assert workers.told[1] == ["join bob", "join cem"]
            assert workers.told[2] == []
            present = await workers.presences[2].users(ROOM)
            tabs = {user.user: len(user.sids) for user in present.users}
            assert tabs == {"ann": 2, "bob": 1, "cem": 1}
        await eventually(lambda: workers.told[0][-1] == "leave cem")
        assert workers.told[1] == ["join bob", "join cem", "leave cem"]
        assert await workers.presences[2].count(ROOM) == 2
        assert await workers.presences[2].is_present("ann", ROOM)
        assert not await workers.presences[2].is_present("cem", ROOM)

        async def is_found() -> bool:  # what leads there is at another node of a cluster
            return await workers.presences[2].rooms("ann") == {ROOM}

        await eventually(is_found)
    everything = ["join ann", "join bob", "join cem", "leave ann", "leave bob", "leave cem"]
    await eventually(lambda: sorted(workers.told_one) == everything)
    assert await workers.presences[0].rooms("ann") == set()


async def test_a_reload_within_the_grace_makes_no_event(
    everywhere: Workers,
) -> None:
    workers = everywhere
    async with workers.member(0, "bob"):
        async with workers.member(1, "ann"):
            await eventually(lambda: workers.told[0] == ["join bob", "join ann"])
        assert await workers.presences[0].is_present("ann", ROOM)
        async with workers.member(2, "ann"):
            await asyncio.sleep(2 * GRACE)
            assert workers.told[0] == ["join bob", "join ann"]


async def test_a_dead_workers_users_leave_once_and_nothing_is_left(
    everywhere: Workers,
) -> None:
    workers = everywhere
    async with workers.member(0, "bob"), workers.member(1, "ann"), workers.member(1, "cem"):
        await eventually(lambda: len(workers.told[0]) == 3)
        await workers.stop_lease(1)
        await eventually(lambda: len(workers.told[0]) == 5)
        assert sorted(workers.told[0][3:]) == ["leave ann", "leave cem"]
        await asyncio.sleep(2 * GRACE)
        assert len(workers.told[0]) == 5
    once = ["join ann", "join bob", "join cem", "leave ann", "leave cem"]
    assert sorted(workers.told_one[:5]) == once
    workers.start_lease(1)  # so that it need not wait for one as it stops


async def test_a_worker_that_thaws_is_seen_to_leave_and_to_join_again(
    everywhere: Workers,
) -> None:
    workers = everywhere
    async with workers.member(0, "bob"), workers.member(1, "ann"):
        await eventually(lambda: len(workers.told[0]) == 2)
        await workers.stop_lease(1)
        await eventually(lambda: workers.told[0][2:] == ["leave ann"])
        workers.start_lease(1)
        await eventually(lambda: workers.told[0][2:] == ["leave ann", "join ann"])
        assert await workers.presences[2].count(ROOM) == 2


async def test_two_reapers_and_a_late_worker_make_one_leave(everywhere: Workers) -> None:
    workers = everywhere
    async with workers.member(0, "bob"), workers.member(2, "cem"):
        async with workers.member(1, "ann"):
            await eventually(lambda: len(workers.told[0]) == 3)
            await workers.stop_lease(1)
            await eventually(lambda: workers.told[0][3:] == ["leave ann"])
        workers.start_lease(1)  # and only now it tells that she has left
        async with workers.member(1, "dan"):
            await eventually(lambda: workers.told[0][-1] == "join dan")
            present = await workers.presences[2].users(ROOM)
            assert {user.user for user in present.users} == {"bob", "cem", "dan"}
        since = workers.told[0][3:]
        # Between its new lease and her leaving it may put her in, and out again.
        assert since.count("leave ann") == since.count("join ann") + 1, since
        assert workers.told_one.count("leave ann") == since.count("leave ann")


async def test_a_snapshot_and_its_diffs_miss_nobody_in_a_room_that_churns(
    everywhere: Workers,
) -> None:
    workers, snapshots = everywhere, list[Present]()
    events: list[PresenceEvent] = []
    for kind in ("join", "leave"):
        workers.presences[0].on(kind)(events.append)

    async def comes_and_goes(worker: int, user: str) -> None:
        for _ in range(3):
            async with workers.member(worker, user):
                snapshots.append(await workers.presences[worker].users(ROOM))
            await eventually(lambda: any(e.kind == "leave" and e.user == user for e in events))

    async with workers.member(0, "bob"):
        await asyncio.gather(*(comes_and_goes(number % 3, f"user {number}") for number in range(6)))
        last = await workers.presences[1].users(ROOM)
        await eventually(lambda: events[-1].version >= last.version)
        assert [e.version for e in events] == [*range(events[0].version, events[-1].version + 1)]
        for snapshot in snapshots:
            there = {user.user for user in snapshot.users}
            for event in events:
                if snapshot.version < event.version <= last.version:
                    (there.add if event.kind == "join" else there.discard)(event.user)
            assert there == {user.user for user in last.users}


async def test_who_is_refused_is_never_present(workers: Workers) -> None:
    @workers.managers[1].authorize("chat-*")
    def refuse(socket: object, room: str) -> bool:
        return False

    async with workers.member(0, "bob"):
        async with workers.member(1, "ann", expects_to_join=False) as ann:
            await ann.wait_ended()
        await asyncio.sleep(2 * GRACE)
        assert workers.told[0] == ["join bob"]


async def test_who_has_no_user_cannot_join(workers: Workers) -> None:
    async with workers.member(0, None, expects_to_join=False) as nobody:
        with pytest.raises(UsageError, match="no 'name' in its data"):
            await nobody.wait_ended()
    assert await workers.presences[0].count(ROOM) == 0


async def test_who_is_put_into_a_room_is_present(workers: Workers) -> None:
    """Whichever worker is first: one that is already there hears of both."""
    async with (
        workers.member(0, "cem"),
        workers.member(0, "ann", room="lobby"),
        workers.member(1, "bob", room="lobby"),
    ):
        await workers.managers[2].to("lobby").sockets_join(ROOM)
        assert await workers.presences[2].count(ROOM) == 3
        await eventually(lambda: sorted(workers.told[0]) == ["join ann", "join bob", "join cem"])
        await workers.managers[2].to("lobby").sockets_leave(ROOM)
        await eventually(lambda: sorted(workers.told_one)[3:] == ["leave ann", "leave bob"])


async def test_a_room_that_was_not_declared_cannot_be_asked(workers: Workers) -> None:
    with pytest.raises(UsageError, match="does not know who is present"):
        await workers.presences[0].users("lobby")


async def test_a_redis_that_was_emptied_makes_nobody_leave_and_is_repaired(
    redis_workers: Workers, redis_server: RedisServer
) -> None:
    workers = redis_workers
    async with workers.member(0, "bob"), workers.member(1, "ann"):
        await eventually(lambda: len(workers.told[0]) == 2)
        redis_server.command("FLUSHALL")

        async def is_repaired() -> bool:
            return await workers.presences[2].count(ROOM) == 2

        await eventually(is_repaired)
        async with workers.member(2, "cem"):
            await eventually(lambda: workers.told[0][2:] == ["join cem"])


async def test_who_is_in_their_grace_as_a_worker_stops_leaves_once_and_soon(
    redis_workers: Workers, redis_server: RedisServer
) -> None:
    workers, leaving = redis_workers, RoomManager(redis_server.url, heartbeat=60)
    leaving.presence("chat-*", user="name", grace=GRACE)
    async with workers.member(0, "ann"):
        async with leaving:
            bob = Member(leaving, "bob", ROOM, expects_to_join=True)
            await bob.open()
        await eventually(lambda: workers.told[0] == ["join ann", "join bob", "leave bob"])
        await bob.close()
    await eventually(lambda: "leave ann" in workers.told_one)
    assert workers.told_one == ["join ann", "leave bob", "leave ann"]


async def test_nothing_is_left_in_redis(redis_workers: Workers, redis_server: RedisServer) -> None:
    workers = redis_workers
    async with workers.member(0, "bob"), workers.member(1, "ann"):
        assert redis_server.command("KEYS", "rooms:*")
    await eventually(lambda: workers.told_one[2:] and len(workers.told_one) == 4)
    await workers.close()
    assert redis_server.command("KEYS", "rooms:*") == [b"rooms:declared"]


async def test_while_redis_is_away_nobody_joins_and_nobody_is_said_to_be_there(
    own_redis: RedisServer,
) -> None:
    async with (
        Workers([own_redis.url, own_redis.url], join_timeout=0.5) as workers,
        workers.member(0, "bob"),
        workers.member(1, "ann", room="lobby") as ann,
    ):
        own_redis.kill()
        assert ann.socket is not None
        with pytest.raises(AdapterUnavailable):
            await ann.socket.join(ROOM)
        own_redis.start()

        async def is_known() -> bool:
            try:
                return await workers.presences[1].count(ROOM) == 1
            except AdapterUnavailable:
                return False

        await eventually(is_known)
        # What was under way as she gave up may have been done, and is undone then. A worker hears
        # nothing before it is subscribed again: the versions tell it that it has missed some.
        told = ["join bob"], ["join bob", "join ann", "leave ann"], ["join bob", "leave ann"]
        await eventually(lambda: workers.told[0] in told)
