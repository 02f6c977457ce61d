"""Redis refuses to keep messages: for want of memory, of rights, of replicas, or of time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.redis.history import lane as lane_module
from fastapi_rooms.testing import RedisServer, eventually
from tests.faults.kept import Worker, worker
from tests.faults.support import busy

COMMANDS = (
    *("eval", "evalsha", "hmget", "hset", "hsetnx", "hgetall", "hdel", "pexpire"),
    *("xadd", "xrange", "xrevrange", "publish", "del"),
)
"""What a user has to be allowed, beside what everybody has to be."""

ALLOWED = ("~rooms:*", "&rooms#*", "-@all", "+subscribe", "+unsubscribe")


@pytest.fixture
async def near(own_redis: RedisServer) -> AsyncIterator[Worker]:
    async with worker(own_redis.url) as one:
        await one.append(b"first")
        yield one


async def assert_untouched(near: Worker) -> None:
    """Only the first message is there, and nobody has heard another."""
    last = await near.append(b"last")
    assert last.offset == 2
    assert await near.kept() == await near.hears(last) == [b"first", b"last"]


async def test_without_memory_nothing_is_half_published_and_everything_can_be_read(
    own_redis: RedisServer, near: Worker
) -> None:
    own_redis.admin.config_set("maxmemory", 1)
    with pytest.raises(AdapterUnavailable, match=r"OOM.*Raise its maxmemory") as raised:
        await near.append(b"refused")
    assert not raised.value.uncertain
    assert await near.kept() == [b"first"]
    with pytest.raises(AdapterUnavailable, match="Redis refused to begin a room: OOM"):
        await near.read(RoomKey(b"/#new", b"rooms#/#new#"))
    own_redis.admin.config_set("maxmemory", 0)
    await assert_untouched(near)
    assert near.adapter.health.dropped == 1


async def test_without_enough_replicas_nothing_is_half_published(
    own_redis: RedisServer, near: Worker
) -> None:
    own_redis.admin.config_set("min-replicas-to-write", 1)
    with pytest.raises(AdapterUnavailable, match=r"NOREPLICAS.*min-replicas-to-write") as raised:
        await near.append(b"refused")
    assert not raised.value.uncertain
    assert await near.kept() == [b"first"]
    with pytest.raises(AdapterUnavailable, match="Redis refused to forget: NOREPLICAS"):
        await near.adapter.forget(RoomKey(b"/#tea", b""))
    own_redis.admin.config_set("min-replicas-to-write", 0)
    await assert_untouched(near)


async def test_while_it_runs_a_script_of_somebody_elses_nothing_is_half_published(
    own_redis: RedisServer, near: Worker
) -> None:
    async with busy(own_redis):
        with pytest.raises(AdapterUnavailable, match=r"BUSY.*SCRIPT KILL"):
            await near.append(b"refused")
        with pytest.raises(AdapterUnavailable, match="refused to read: BUSY"):
            await near.read()
    await assert_untouched(near)


def url_of_user(server: RedisServer, *rules: str) -> str:
    server.command("ACL", "SETUSER", "ann", "reset", "on", ">secret", *rules)
    return f"redis://ann:secret@{server.host}:{server.port}"


async def test_a_user_with_the_rights_we_name_is_enough(own_redis: RedisServer) -> None:
    rights = (f"+{command}" for command in COMMANDS)
    async with worker(url_of_user(own_redis, *ALLOWED, *rights)) as near:
        assert await near.adapter.tops([]) == []
        positions = await near.append_all([b"first", b"second"])
        own_redis.kill_connections("normal")
        own_redis.admin.script_flush()
        assert await near.missed_since(positions[0]) == [b"second"]
        assert await near.adapter.tops([RoomKey(b"/#tea", b"")]) == positions[1:]
        await near.adapter.forget(RoomKey(b"/#tea", b""))
        assert await near.kept() == []
    refused = {entry["object"] for entry in own_redis.admin.acl_log()}
    assert refused <= {"hello", "client|setinfo", "client"}, "what redis-py says at the start"


@pytest.mark.parametrize("missing", [command for command in COMMANDS if command != "publish"])
async def test_a_right_that_is_missing_is_named_at_the_start_and_nothing_is_touched(
    own_redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    monkeypatch.setattr(lane_module, "FORBIDDEN_DELAY", 0.05)
    rights = (f"+{command}" for command in COMMANDS if command != missing)
    async with worker(url_of_user(own_redis, *ALLOWED, *rights)) as near:
        named = rf"{missing.upper()} .*ACL SETUSER <user> \+{missing}$"
        with pytest.raises(AdapterUnavailable, match=named):
            await near.adapter.tops([])
        with pytest.raises(AdapterUnavailable, match=named) as raised:
            await near.append(b"refused")
        assert not raised.value.uncertain
        with pytest.raises(AdapterUnavailable, match=named):
            await near.read()
        assert near.adapter.health.connected, "plain rooms can be used"
        assert not own_redis.admin.keys("rooms:*tea*")
        own_redis.command("ACL", "SETUSER", "ann", f"+{missing}")
        await eventually(lambda: len(caplog.records) == 2)
        assert (await near.append(b"first")).offset == 1
        await eventually(lambda: not own_redis.admin.keys("*trial*"))
        told, again = (record.getMessage() for record in caplog.records)
        assert missing.upper() in told
        assert again == "Redis allows rooms with a history again"


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (("~other:*", "&rooms#*"), r"HMGET, .*~rooms:\*$"),
        (("%R~rooms:*", "&rooms#*"), r"HSET, .*~rooms:\*$"),
        (("~rooms:meta:*", "&rooms#*"), r"XADD, .*~rooms:\*$"),
        (("~rooms:*", "&rooms#probe*", "&rooms#moved#", "&rooms#/*"), r"&rooms#\*$"),
    ],
)
async def test_keys_and_channels_that_are_missing_are_named(
    own_redis: RedisServer, rules: tuple[str, ...], named: str
) -> None:
    rights = (*(f"+{command}" for command in COMMANDS), "+subscribe", "+unsubscribe")
    async with worker(url_of_user(own_redis, *rules, *rights)) as near:
        with pytest.raises(AdapterUnavailable, match=named):
            await near.adapter.tops([])


async def test_a_channel_that_is_forbidden_later_gives_its_number_to_the_next_message(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "allkeys", "allchannels", "+@all")
    async with worker(url) as near, worker(own_redis.url) as far:
        await near.append(b"first")
        own_redis.command(
            "ACL", "SETUSER", "ann", "resetchannels", "&rooms#trial#", "&rooms#probe*"
        )
        with pytest.raises(AdapterUnavailable, match="Redis refused to keep") as raised:
            await near.append(b"refused")
        assert not raised.value.uncertain
        assert await far.kept() == [b"first"]
        last = await far.append(b"last")
        assert await far.hears(last) == [b"first", b"last"]
        assert last.offset == 2


async def test_what_is_published_and_may_not_be_kept_any_more_is_told_as_uncertain(
    own_redis: RedisServer,
) -> None:
    url = url_of_user(own_redis, "allkeys", "allchannels", "+@all")
    async with worker(url) as near, worker(own_redis.url) as far:
        await near.append(b"first")
        own_redis.command("ACL", "SETUSER", "ann", "-xadd")
        with pytest.raises(AdapterUnavailable, match="a permission is missing") as raised:
            await near.append(b"published")
        assert raised.value.uncertain
        last = await far.append(b"last")
        assert await far.hears(last) == [b"first", b"published", b"last"]
        assert await far.kept() == [b"last"], "without a hole"
