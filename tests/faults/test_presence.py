"""What Redis refuses to those who tell who is present: it is named, and nothing is half done."""

from __future__ import annotations

import pytest

from fastapi_rooms import AdapterUnavailable, RedisAdapter
from fastapi_rooms.adapters.redis.history import lane as lane_module
from fastapi_rooms.testing import RedisServer, eventually
from fastapi_rooms.testing.suite.backplane import Station, stations
from fastapi_rooms.testing.suite.kept_messages import new_room
from fastapi_rooms.testing.suite.people import AT_ONCE, LATER, Worker
from tests.conformance.backplanes import ServerBackplane

COMMANDS = (
    *("eval", "evalsha", "time", "publish", "pexpire", "del"),
    *("hset", "hget", "hmget", "hexists", "hscan", "hgetall", "hdel"),
    *("sadd", "srem", "scard", "sscan"),
    *("zadd", "zrem", "zcard", "zscore", "zrange", "zrangebyscore"),
)
ALLOWED = ("~rooms:*", "&rooms#*", "&marks", "-@all", "+subscribe", "+unsubscribe")


def url_of_user(server: RedisServer, *rules: str) -> str:
    server.command("ACL", "SETUSER", "ann", "reset", "on", ">secret", *rules)
    return f"redis://ann:secret@{server.host}:{server.port}"


async def everything(worker: Worker) -> None:
    """All that a worker asks for, once."""
    room, ann = new_room(worker.station), worker.new_socket("ann")
    await worker.beat(reaps=True)
    await worker.enter(room, ann)
    await worker.snapshot(room)
    await worker.adapter.sync(room, worker.lease, AT_ONCE, [ann])
    await worker.adapter.sums(worker.lease, [room])
    await worker.adapter.is_present(room, "ann")
    await worker.adapter.rooms_of_user("/", "ann")
    await worker.leave(room, ann, terms=LATER)
    await worker.adapter.sweep(room, AT_ONCE)
    await worker.adapter.rooms_of(worker.lease)
    await worker.adapter.reap(room, worker.lease, AT_ONCE)
    await worker.adapter.bury(worker.lease)


async def test_a_user_with_the_rights_we_name_is_enough(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, *ALLOWED, *(f"+{command}" for command in COMMANDS))
    async with stations(ServerBackplane(own_redis, lambda _: RedisAdapter(url)), 1) as (station,):
        await everything(Worker(station))
        own_redis.admin.script_flush()
        await everything(Worker(station))


async def test_each_right_that_is_missing_is_named_before_anything_is_touched(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane_module, "FORBIDDEN_DELAY", 0.01)
    for missing in {*COMMANDS} - {"publish"}:  # without which there is no adapter
        caplog.clear()
        rights = (f"+{command}" for command in COMMANDS if command != missing)
        url = url_of_user(own_redis, *ALLOWED, *rights)
        adapter = RedisAdapter(url)
        station = Station(adapter)
        await station.start()
        worker = Worker(station)
        named = rf"what presence needs: {missing.upper()} .*ACL SETUSER <user> \+{missing}$"
        with pytest.raises(AdapterUnavailable, match=named):
            await worker.beat()
        assert adapter.health.connected, "plain rooms can be used"
        assert not own_redis.admin.exists("rooms:{workers}")
        own_redis.command("ACL", "SETUSER", "ann", f"+{missing}")
        await eventually(lambda: len(caplog.records) == 2)
        assert "Redis allows rooms with presence again" in caplog.text
        await worker.beat()
        await worker.adapter.bury(worker.lease)
        await adapter.close()


async def test_history_and_presence_are_allowed_each_by_itself(own_redis: RedisServer) -> None:
    url = url_of_user(own_redis, *ALLOWED, *(f"+{command}" for command in COMMANDS))
    async with stations(ServerBackplane(own_redis, lambda _: RedisAdapter(url)), 1) as (station,):
        await Worker(station).beat()
        with pytest.raises(AdapterUnavailable, match="what presence and history needs: "):
            await station.adapter.tops([])  # type: ignore[attr-defined] # it is a RedisAdapter


async def test_a_full_memory_refuses_who_comes_and_tells_nobody(own_redis: RedisServer) -> None:
    backplane = ServerBackplane(own_redis, lambda server: RedisAdapter(server.url))
    async with stations(backplane, 2) as (near, far):
        one, room = Worker(near), new_room(near)
        await far.subscribe(room.channel)
        ann, bob = one.new_socket("ann"), one.new_socket("bob")
        await one.beat()
        await one.enter(room, ann)
        own_redis.admin.config_set("maxmemory", 1)
        with pytest.raises(AdapterUnavailable, match="its memory is full"):
            await one.enter(room, bob)
        own_redis.admin.config_set("maxmemory", 0)
        assert await one.adapter.count(room) == 1
        left = await one.leave(room, ann)
        heard = await Worker(far).heard_until(room, left.version)
        assert [(each.kind, each.user) for each in heard] == [("join", "ann"), ("leave", "ann")]
