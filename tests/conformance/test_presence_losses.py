"""What Redis loses of who is present, or has from others: it is found out, and repaired quietly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from fastapi_rooms import Adapter, AdapterUnavailable, RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.presence import Entry, RoomKey, sums_of
from fastapi_rooms.adapters.redis.presence.keys import (
    keys_of,
    socket_key,
    user_key,
    workers_key,
)
from fastapi_rooms.adapters.redis.presence.room_script import Step
from fastapi_rooms.adapters.redis.sharded.slots import slot_of
from fastapi_rooms.testing import Direction, RedisCluster, RedisProxy, RedisServer, eventually
from fastapi_rooms.testing.suite.backplane import stations
from fastapi_rooms.testing.suite.people import (
    AT_ONCE,
    LATER,
    SOON,
    Worker,
    common_room,
    joins,
    leaves,
    told,
)
from tests.conformance.backplanes import left_clean, masters_of
from tests.conformance.presence_keys import Servers, delete, has, node_with, own_rooms, presence_of
from tests.conformance.test_presence import PresentOnServers

Pair = tuple[Worker, Worker]


@pytest.fixture(params=["redis", "cluster"])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    servers: Servers = request.getfixturevalue(
        {"redis": "redis_server", "cluster": "redis_cluster"}[request.param]
    )
    yield servers
    for node in masters_of(servers):
        node.admin.flushall()
    await left_clean(servers)


@pytest.fixture
async def pair(servers: Servers) -> AsyncIterator[Pair]:
    def adapter(servers: Servers) -> Adapter:
        is_cluster = isinstance(servers, RedisCluster)
        return (RedisClusterAdapter if is_cluster else RedisAdapter)(servers.url)

    backplane = PresentOnServers[Servers](servers, adapter)
    async with stations(backplane, 2) as (one, two):
        workers = Worker(one), Worker(two)
        for worker in workers:
            await worker.beat()
        yield workers


async def repaired(worker: Worker, room: RoomKey, own: Sequence[Entry]) -> bool:
    """What a worker does now and then; returns whether anything was wrong."""
    before = worker.lease
    await worker.beat()
    (sums,) = await worker.adapter.sums(worker.lease, [room])
    is_right = sums.is_whole and (sums.sockets, sums.checksum) == sums_of(own)
    if not is_right or worker.lease != before:
        changed = await worker.adapter.sync(room, worker.lease, SOON, own)
        assert not [each for each in changed.events if each.kind == "join"]
        (sums,) = await worker.adapter.sums(worker.lease, [room])
        assert sums.is_whole
        assert (sums.lease, *sums[1:3]) == (worker.lease.number, *sums_of(own))
    return not is_right or worker.lease != before


@pytest.mark.parametrize("lost", ["truth", "sids", "truth and sids", "leases"])
async def test_whatever_is_lost_is_put_in_again_and_nobody_is_told(
    servers: Servers, pair: Pair, lost: str
) -> None:
    one, two = pair
    room = await common_room([two])
    own = [one.new_socket("ann"), one.new_socket("bob"), Entry("chosen", "ann")]
    others = [two.new_socket("bob"), two.new_socket("cem"), Entry("chosen", "cem")]
    await one.enter(room, *own)
    version = (await two.enter(room, *others)).version
    keys = keys_of(b"rooms", room.name)
    losing = {
        "truth": [keys.truth],
        "sids": [keys.sids],
        "truth and sids": [keys.truth, keys.sids],
        "leases": [workers_key(b"rooms")],
    }
    assert delete(servers, *losing[lost]) == len(losing[lost])
    assert await repaired(one, room, own)
    await repaired(two, room, others)
    assert not await repaired(one, room, own)
    assert (await one.snapshot(room))[1:] == ({"ann", "bob", "cem"}, {*own, *others})
    assert await two.adapter.count(room) == 3
    left = [*(await one.leave(room, *own)).events, *(await two.leave(room, *others)).events]
    assert told(left) == leaves("ann", "bob", "cem")
    assert left[0].version > version
    heard = await two.heard_until(room, left[-1].version)
    assert sorted(told(heard[:3])) == joins("ann", "bob", "cem")
    assert heard[3:] == left


async def test_an_empty_redis_makes_nobody_leave(servers: Servers, pair: Pair) -> None:
    one, two = pair
    rooms = [await common_room(pair) for _ in range(3)]
    own, others = [one.new_socket("ann")], [two.new_socket("ann"), two.new_socket("bob")]
    for room in rooms:
        await one.enter(room, *own)
        await two.enter(room, *others)
    for node in masters_of(servers):
        node.admin.flushall()
        node.admin.script_flush()
    for room in rooms:
        await asyncio.gather(repaired(one, room, own), repaired(two, room, others))
        assert told((await one.leave(room, *own)).events) == []
        left = await two.leave(room, *others)
        heard = await one.heard_until(room, left.version)
        assert told(heard) == joins("ann", "bob") + leaves("ann", "bob")


async def test_who_is_in_their_grace_leaves_all_the_same(servers: Servers, pair: Pair) -> None:
    one, two = pair
    room = await common_room([one])
    stays, ann = two.new_socket("bob"), one.new_socket("ann")
    await two.enter(room, stays)
    await one.enter(room, ann)
    await one.leave(room, ann, terms=LATER)
    assert delete(servers, keys_of(b"rooms", room.name).gone) == 1
    assert await repaired(two, room, [stays])
    assert told(await two.swept(room)) == leaves("ann")
    await two.leave(room, stays)


async def test_who_left_last_leaves_though_the_end_of_their_grace_is_lost(
    servers: Servers, pair: Pair
) -> None:
    """Nobody has a socket there, so that nobody would compare the room."""
    one, _ = pair
    room, ann = await common_room([one]), one.new_socket("ann")
    await one.enter(room, ann)
    await one.leave(room, ann, terms=LATER)
    assert delete(servers, keys_of(b"rooms", room.name).gone) == 1
    changed = await one.enter(room)
    assert (changed.next_leave, changed.is_whole) == (None, False)
    assert await one.adapter.rooms_of(one.lease) == [room.name], "it has to be seen to"
    changed = await one.adapter.sync(room, one.lease, LATER, [])
    assert changed.next_leave is not None
    assert changed.is_whole
    assert delete(servers, keys_of(b"rooms", room.name).gone) == 1
    await one.adapter.sync(room, one.lease, AT_ONCE, [])
    assert told(one.heard(room)) == joins("ann") + leaves("ann")
    assert await one.adapter.rooms_of(one.lease) == []


async def test_who_is_in_their_grace_as_the_truth_is_lost_leaves_once(
    servers: Servers, pair: Pair
) -> None:
    one, two = pair
    room = await common_room([one])
    stays, ann = two.new_socket("bob"), one.new_socket("ann")
    await two.enter(room, stays)
    await one.enter(room, ann)
    await one.leave(room, ann, terms=SOON)
    assert delete(servers, keys_of(b"rooms", room.name).truth) == 1
    await repaired(two, room, [stays])
    await two.swept(room)
    left = await two.leave(room, stays)
    heard = await one.heard_until(room, left.version)
    assert told(heard) == joins("bob", "ann") + leaves("ann", "bob")


async def test_who_comes_back_in_their_grace_as_the_truth_is_lost_was_never_away(
    servers: Servers, pair: Pair
) -> None:
    one, two = pair
    room = await common_room([two])
    ann = one.new_socket("ann")
    await one.enter(room, ann)
    await one.leave(room, ann, terms=LATER)
    delete(servers, keys_of(b"rooms", room.name).truth)
    assert (await one.enter(room, ann)).events == ()
    left = await one.leave(room, ann)
    assert told(await two.heard_until(room, left.version)) == joins("ann") + leaves("ann")


async def test_a_reaper_that_dies_half_way_leaves_the_room_for_others_to_find(
    pair: Pair,
) -> None:
    one, two = pair
    room = await common_room([two])
    ann, bob = one.new_socket("ann"), one.new_socket("bob")
    await one.enter(room, ann)
    await presence_of(two)._step(Step("reap", room, one.lease, AT_ONCE))
    assert (await one.enter(room, bob)).fenced
    assert await two.adapter.rooms_of(one.lease) == [room.name]
    assert told((await two.adapter.reap(room, one.lease, AT_ONCE)).events) == leaves("ann")
    assert await two.adapter.rooms_of(one.lease) == []


async def test_what_leads_to_rooms_is_put_in_again_now_and_then(
    servers: Servers, pair: Pair
) -> None:
    one, two = pair
    room = await common_room([one])
    ann = one.new_socket("ann")
    await one.enter(room, ann)
    sid, user = socket_key(b"rooms", b"/", ann.sid.encode()), user_key(b"rooms", b"/", b"ann")
    assert delete(servers, sid, user, own_rooms(one, room)) == 3
    await one.adapter.sync(room, one.lease, AT_ONCE, [ann])
    name = room.name.partition(b"#")[2].decode()
    assert await two.adapter.rooms_of_user("/", "ann") == [name]
    assert await two.adapter.rooms_of(one.lease) == [room.name]
    assert node_with(servers, sid).admin.smembers(sid) == {room.name}
    await one.leave(room, ann)


async def test_what_leads_nowhere_is_removed_by_who_reads_it(servers: Servers, pair: Pair) -> None:
    one, two = pair
    room = await common_room([one])
    ann = one.new_socket("ann")
    await one.enter(room, ann)
    delete(servers, keys_of(b"rooms", room.name).truth)
    assert await two.adapter.rooms_of_user("/", "ann") == []
    user = user_key(b"rooms", b"/", b"ann")
    assert not any(has(node, user) for node in masters_of(servers))


async def test_people_can_read_who_is_where(servers: Servers, pair: Pair) -> None:
    one, two = pair
    room = await common_room([one])
    ann, bob = one.new_socket("ann"), Entry("chosen", "bob")
    await one.enter(room, ann, bob)
    await two.enter(room, bob)
    await one.leave(room, bob)
    sids = b"rooms:room:{%b}" % room.name
    assert node_with(servers, sids).admin.smembers(sids) == {ann.sid.encode(), b"chosen"}
    chosen = b"rooms:socket:/#chosen"
    assert node_with(servers, chosen).admin.smembers(chosen) == {room.name}
    for node in masters_of(servers):
        for key in node.admin.keys("*"):
            assert node.admin.pttl(key) > 0, "all of it expires by itself"
    await two.leave(room, bob)
    assert not any(has(node, chosen) for node in masters_of(servers))
    await one.leave(room, ann)


async def test_scripts_that_redis_forgets_change_nothing(servers: Servers, pair: Pair) -> None:
    one, two = pair
    room = await common_room([two])
    version = 0
    for _ in range(5):
        for node in masters_of(servers):
            node.admin.script_flush()
        ann = one.new_socket("ann")
        await one.enter(room, ann)
        await one.beat()
        for node in masters_of(servers):
            node.admin.script_flush()
        version = (await one.leave(room, ann)).version
    heard = await two.heard_until(room, version)
    assert told(heard) == (joins("ann") + leaves("ann")) * 5


async def test_a_connection_that_only_asks_is_noticed_when_another_takes_its_place(
    servers: Servers, pair: Pair
) -> None:
    one, _ = pair
    adapter = one.station.adapter
    before, reconnects = one.adapter.relinks(), adapter.health.reconnects
    for node in masters_of(servers):
        for client in node.admin.client_list():
            if client["cmd"] in ("eval", "evalsha"):
                node.admin.client_kill_filter(_id=client["id"])
    await eventually(lambda: one.adapter.relinks() > before)
    await one.beat()
    assert adapter.health.connected
    assert adapter.health.reconnects == reconnects


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_set_that_cannot_be_written_keeps_no_other_from_it_and_no_event_from_who_made_it(
    servers: Servers, pair: Pair, forgets: bool
) -> None:
    one, _ = pair
    room = await common_room([one])
    broken = user_key(b"rooms", b"/", b"bob")
    node = servers.master_of(broken) if isinstance(servers, RedisCluster) else servers
    node.admin.set(broken, "no set")
    users = [one.new_socket(user) for user in ("ann", "bob", "cem")]
    if forgets:
        for each in masters_of(servers):
            each.admin.script_flush()
    changed = await one.enter(room, *users)
    assert "WRONGTYPE" in str(changed.failure)
    assert told(changed.events) == joins("ann", "bob", "cem")
    with pytest.raises(AdapterUnavailable, match="WRONGTYPE"):
        await one.enter(room, *users)  # nothing is made of it any more
    for user in ("ann", "cem"):
        assert len(await one.adapter.rooms_of_user("/", user)) == 1
    node.admin.delete(broken)
    await one.enter(room, *users)
    assert len(await one.adapter.rooms_of_user("/", "bob")) == 1
    await one.leave(room, *users)


async def test_what_makes_no_sense_is_left_out_and_counted(servers: Servers, pair: Pair) -> None:
    one, _ = pair
    room = await common_room([one])
    ann = one.new_socket("ann")
    await one.enter(room, ann)
    truth = keys_of(b"rooms", room.name).truth
    admin = node_with(servers, truth).admin
    junk = [
        b"",
        b"?",
        b"s",
        b"sshort",
        b"s" + b"0" * 16,
        b"s" + b"0" * 16 + b"\xff",
        b"u",
        b"u\xff",
    ]
    for field in [*junk, b"uno number"]:
        admin.hset(truth, field, "x")
    admin.hset(truth, b"s" + b"0" * 16 + b"no user", b"\xff")
    before = one.station.adapter.health.dropped
    assert (await one.snapshot(room))[1:] == ({"ann"}, {ann})
    assert one.station.adapter.health.dropped == before + len(junk) + 2
    own, user = own_rooms(one, room), user_key(b"rooms", b"/", b"ann")
    for key in (own, user):
        node_with(servers, key).admin.sadd(key, "no room", b"\xff")
    assert await one.adapter.rooms_of(one.lease) == [room.name]
    assert await one.adapter.rooms_of_user("/", "ann") == [room.name.partition(b"#")[2].decode()]
    leases = workers_key(b"rooms")
    for member in ("junk", "0:0", "abc:1"):
        node_with(servers, leases).admin.zadd(leases, {member: 1})
    assert await one.beat(reaps=True) == []


async def test_another_applications_keys_are_named(servers: Servers, pair: Pair) -> None:
    one, _ = pair
    room = await common_room([one])
    ann = one.new_socket("ann")
    await one.enter(room, ann)
    truth = keys_of(b"rooms", room.name).truth
    admin = node_with(servers, truth).admin
    admin.set(truth, "something else")
    for asked in (
        one.enter(room, one.new_socket("bob")),
        one.adapter.sync(room, one.lease, AT_ONCE, [ann]),
        one.adapter.present(room),
        one.adapter.count(room),
        one.adapter.sums(one.lease, [room]),
        one.adapter.reap(room, one.lease, AT_ONCE),
    ):
        with pytest.raises(AdapterUnavailable, match="a prefix of its own"):
            await asked


def test_a_rooms_keys_are_where_its_channel_is() -> None:
    for name in (b"a", b"{", b"}", b"{}", b"}{", b"{a}{b}", b"#", b"\0", "Grüße 🎉".encode()):
        keys = keys_of(b"rooms", b"/#" + name)
        assert {slot_of(key) for key in keys} == {slot_of(b"rooms#{/#%b}#" % name)}


async def test_what_is_asked_again_as_its_answer_is_lost_is_told_once(
    redis_server: RedisServer,
) -> None:
    async with RedisProxy(redis_server) as proxy:
        backplane = PresentOnServers(redis_server, lambda _: RedisAdapter(proxy.url))
        async with stations(backplane, 2) as (near, far):
            one, two = Worker(near), Worker(far)
            await one.beat()
            room, ann, bob = await common_room([two]), one.new_socket("ann"), one.new_socket("bob")
            proxy.stall(Direction.TO_CLIENT)
            entering = asyncio.create_task(one.enter(room, ann))
            truth = keys_of(b"rooms", room.name).truth
            await eventually(lambda: redis_server.admin.hexists(truth, "uann"))
            proxy.cut()
            proxy.resume()
            assert (await entering).events == ()
            assert await two.adapter.count(room) == 1
            assert told((await one.leave(room, ann)).events) == leaves("ann")
            last = await one.enter(room, bob)
            assert last.events[-1].version == last.version
            await one.leave(room, bob)
    redis_server.admin.flushall()
    await left_clean(redis_server)
