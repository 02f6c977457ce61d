"""The command line and who is present, beside workers in this process and a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.cli.findings import Finding
from fastapi_rooms.cli.presence_checks import eviction
from fastapi_rooms.testing import Member, RedisCluster, RedisServer, SentinelServers, eventually
from tests.integration.terminal import at_a_terminal, findings, run

ROOM = "chat-tea"
PLAIN_RIGHTS = ("resetchannels", "&rooms#*", "+publish", "+subscribe", "+unsubscribe")


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[RoomManager]:
    rooms = RoomManager(url)
    for namespace in (rooms, rooms.of("/bar")):
        namespace.presence("chat-*", user="name", grace=0)
    async with rooms:
        yield rooms


@pytest.fixture
async def rooms(own_redis: RedisServer) -> AsyncIterator[RoomManager]:
    async with worker(own_redis.url) as rooms:
        await eventually(lambda: own_redis.command("EXISTS", "rooms:{workers}") == 1)
        yield rooms


@pytest.fixture
def url(own_redis: RedisServer, rooms: RoomManager) -> str:
    return own_redis.url


# who


async def test_who_shows_users_and_their_sockets(rooms: RoomManager, url: str) -> None:
    async with (
        Member(rooms, ROOM, data={"name": "bob"}) as bob,
        Member(rooms, ROOM, data={"name": "ann"}) as ann,
        Member(rooms, ROOM, data={"name": "ann"}) as tab,
    ):
        done = await run("who", ROOM, url=url)
        assert (done.code, done.err) == (0, "")
        first, second = done.json
        assert second == {"user": "bob", "sids": [bob.sid]}
        assert (first["user"], sorted(first["sids"])) == ("ann", sorted([ann.sid, tab.sid]))
        done = await at_a_terminal("who", ROOM, url=url)
        assert done.out.split()[:2] == ["user", "sockets"]
        assert all(sid in done.out for sid in (ann.sid, bob.sid, tab.sid))


async def test_who_looks_in_its_namespace_and_at_its_prefix(rooms: RoomManager, url: str) -> None:
    async with Member(rooms.of("/bar"), ROOM, data={"name": "ann"}):
        done = await run("who", ROOM, "--namespace", "bar", url=url)
        assert [user["user"] for user in done.json] == ["ann"]
        assert (await run("who", ROOM, url=url)).json == []
        done = await run("who", ROOM, "--namespace", "bar", "--prefix", "other", url=url)
        assert (done.code, done.out) == (2, "")
        assert "no worker with the prefix 'other' has declared presence for any room" in done.err


async def test_a_room_without_anybody_is_no_failure(url: str) -> None:
    done = await run("who", ROOM, url=url)
    assert (done.code, done.json) == (0, [])
    done = await at_a_terminal("who", ROOM, url=url)
    assert (done.code, done.out.strip()) == (0, "Nobody is present.")


@pytest.mark.parametrize("options", [("not declared",), (ROOM, "--namespace", "pub")])
async def test_a_room_that_was_not_declared_is_wrong_usage(
    options: tuple[str, ...], url: str
) -> None:
    done = await run("who", *options, url=url)
    assert (done.code, done.out) == (2, "")
    assert f"{options[0]!r} does not know who is present" in done.err


async def test_names_of_users_cannot_control_the_terminal(rooms: RoomManager, url: str) -> None:
    async with Member(rooms, ROOM, data={"name": "\x1b[31mred\r\n\u202e"}):
        for arguments in (("who", ROOM), ("who", ROOM, "--json")):
            done = await at_a_terminal(*arguments, url=url)
            assert not set("\x1b\u202e\r") & set(done.out)
            assert "red" in done.out


async def test_a_room_that_cannot_be_is_wrong_usage(url: str) -> None:
    assert (await run("who", "x" * 256, url=url)).code == 2


async def test_nobody_there_is_a_failure() -> None:
    done = await run("who", ROOM, "--timeout", "1", url="redis://127.0.0.1:1")
    assert (done.code, done.out) == (1, "")
    assert "connect" in done.err


async def test_who_needs_to_read_and_nothing_else(
    rooms: RoomManager, own_redis: RedisServer, url: str
) -> None:
    own_redis.command("ACL", "SETUSER", "eve", "on", ">x")
    eve = url.replace("//", "//eve:x@")
    done = await run("who", ROOM, url=eve)
    assert (done.code, done.out) == (1, "")
    rules = done.err.partition("ACL SETUSER <user> ")[2].split()
    own_redis.command("ACL", "SETUSER", "eve", *rules)
    async with Member(rooms, ROOM, data={"name": "ann"}):
        done = await run("who", ROOM, url=eve)
        assert [user["user"] for user in done.json] == ["ann"]


async def test_who_by_sentinels(sentinel_servers: SentinelServers) -> None:
    async with (
        worker(sentinel_servers.url) as rooms,
        Member(rooms, ROOM, data={"name": "ann"}) as ann,
    ):
        done = await run("who", ROOM, url=sentinel_servers.url)
        assert done.json == [{"user": "ann", "sids": [ann.sid]}]


async def test_who_and_doctor_on_a_cluster(redis_cluster: RedisCluster) -> None:
    url = redis_cluster.url
    async with (
        worker(url) as rooms,
        Member(rooms, ROOM, "chat-milk", "chat-sugar", data={"name": "ann"}) as ann,
    ):
        for room in (ROOM, "chat-milk", "chat-sugar"):
            done = await run("who", room, url=url)
            assert (done.code, done.json) == (0, [{"user": "ann", "sids": [ann.sid]}])
        code, found = await findings(url)
        assert (code, found["presence rights"]["grade"]) == (0, "ok")
        assert found["presence eviction"]["grade"] == "unknown"
        for node in redis_cluster.nodes:
            node.command("ACL", "SETUSER", "eve", "on", ">x", "allkeys", "allchannels", "+@all")
        redis_cluster.nodes[-1].command("ACL", "SETUSER", "eve", "-zadd")
        code, found = await findings(f"redis+cluster://eve:x@{url.partition('@')[2]}")
        assert (code, found["presence rights"]["grade"]) == (1, "wrong"), "at one node of three"
        assert "+zadd" in found["presence rights"]["text"]
    for node in redis_cluster.nodes:
        node.command("ACL", "DELUSER", "eve")


# doctor


async def test_doctor_says_nothing_of_presence_where_no_room_has_it(
    own_redis: RedisServer,
) -> None:
    async with RoomManager(own_redis.url):
        code, found = await findings(own_redis.url)
        assert (code, [subject for subject in found if "presence" in subject]) == (0, [])


async def test_doctor_checks_what_presence_depends_on(own_redis: RedisServer, url: str) -> None:
    keys = own_redis.command("KEYS", "*")
    code, found = await findings(url)
    assert code == 0
    assert found["presence rights"]["grade"] == found["presence eviction"]["grade"] == "ok"
    assert found["presence"]["grade"] == "ok"
    assert found["presence"]["text"] == "chat-* in / (no grace); chat-* in /bar (no grace)"
    assert own_redis.command("KEYS", "*") == keys
    own_redis.command("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "volatile-lru")
    code, found = await findings(url)
    assert (code, found["presence eviction"]["grade"]) == (0, "note")
    assert "noeviction" in found["presence eviction"]["advice"]


async def test_doctor_names_the_rights_that_presence_is_missing(
    own_redis: RedisServer, url: str
) -> None:
    own_redis.command("ACL", "SETUSER", "eve", "on", ">x", *PLAIN_RIGHTS)
    eve = url.replace("//", "//eve:x@")
    code, found = await findings(eve)
    assert (code, found["presence"]["grade"]) == (0, "unknown")
    assert "~rooms:* +hgetall" in found["presence"]["text"]
    own_redis.command("ACL", "SETUSER", "eve", "~rooms:*", "+hgetall")
    code, found = await findings(eve)
    assert (code, found["presence rights"]["grade"]) == (1, "wrong")
    assert "+hscan" in found["presence rights"]["text"]
    assert found["presence eviction"]["grade"] == "unknown"


@pytest.mark.parametrize(
    ("finding", "grade", "text"),
    [
        (eviction("0", "allkeys-lru"), "ok", "no maxmemory"),
        (eviction("1000000", "noeviction"), "ok", "raises AdapterUnavailable"),
        (eviction("1000000", "volatile-ttl"), "note", "volatile-ttl"),
        (eviction("1000000", "allkeys-lru"), "note", "is forgotten"),
    ],
)
def test_what_becomes_of_who_is_present(finding: Finding, grade: str, text: str) -> None:
    assert finding.grade.name.lower() == grade
    assert text in finding.text
    assert bool(finding.advice) is (grade == "note")
