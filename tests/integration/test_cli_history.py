"""The command line and rooms with a history, beside workers in this process and a real Redis."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.cli.findings import Finding
from fastapi_rooms.cli.history_checks import eviction, persistence
from fastapi_rooms.testing import Member, RedisCluster, RedisServer, SentinelServers
from tests.integration.terminal import at_a_terminal, findings, run, tailing

ROOM = "chat-tea"


@asynccontextmanager
async def worker(url: str) -> AsyncIterator[RoomManager]:
    rooms = RoomManager(url)
    rooms.history("chat-*", size=20, ttl=3600)
    async with rooms:
        yield rooms


@pytest.fixture
async def rooms(own_redis: RedisServer) -> AsyncIterator[RoomManager]:
    async with worker(own_redis.url) as rooms:
        yield rooms


@pytest.fixture
def url(own_redis: RedisServer, rooms: RoomManager) -> str:
    return own_redis.url


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# emit and history


async def test_what_is_emitted_is_in_the_history(rooms: RoomManager, url: str) -> None:
    async with Member(rooms, ROOM) as ann:
        assert (await run("emit", ROOM, "The kettle is on", url=url)).code == 0
        assert await ann.receive() == "The kettle is on"
    (message,) = await rooms.recent(ROOM)
    done = await run("history", ROOM, url=url)
    assert done.code == 0
    assert lines(done.out) == [
        {"room": ROOM, "text": "The kettle is on", "position": message.position}
    ]


async def test_such_a_room_is_emitted_to_alone(url: str) -> None:
    done = await run("emit", ROOM, "coffee", "hello", url=url)
    assert (done.code, done.out) == (2, "")
    assert f"'{ROOM}' has a history" in done.err
    assert "addressed alone" in done.err


async def test_history_shows_the_last_messages_oldest_first(rooms: RoomManager, url: str) -> None:
    for n in range(5):
        await rooms.to(ROOM).send_text(f"{n}")
    await rooms.to(ROOM).send_bytes(b"\x00\xff")
    done = await run("history", ROOM, "--limit", "2", "--json", url=url)
    assert [m.get("text", m.get("bytes")) for m in lines(done.out)] == ["4", "AP8="]
    done = await at_a_terminal("history", ROOM, "--limit", "2", url=url)
    positions = [m.position for m in await rooms.recent(ROOM, 2)]
    assert done.out.splitlines() == [f"{positions[0]}  4", rf"{positions[1]}  b'\x00\xff'"]


async def test_what_clients_have_said_cannot_control_the_terminal(
    rooms: RoomManager, url: str
) -> None:
    await rooms.to(ROOM).send_text("\x1b[31mred\r\n\u202e")
    for arguments in (("history", ROOM), ("history", ROOM, "--json")):
        done = await at_a_terminal(*arguments, url=url)
        assert not set("\x1b\u202e") & set(done.out)
        assert len(done.out.splitlines()) == 1
        assert "red" in done.out


async def test_a_room_in_which_nothing_was_said_has_an_empty_history(url: str) -> None:
    assert (await run("history", ROOM, url=url)).out == ""
    done = await at_a_terminal("history", ROOM, url=url)
    assert (done.code, done.out.strip()) == (0, "There are no messages.")


async def test_history_is_in_its_namespace(rooms: RoomManager, url: str) -> None:
    done = await run("history", ROOM, "--namespace", "chat", url=url)
    assert done.code == 2
    assert f"'{ROOM}' has no history" in done.err
    assert "'/chat'" in done.err


@pytest.mark.parametrize("arguments", [("history", "tea"), ("tail", "tea", "--since", "x")])
async def test_a_room_without_a_history_is_said_to_have_none(
    arguments: tuple[str, ...], url: str
) -> None:
    done = await run(*arguments, url=url)
    assert (done.code, done.out) == (2, "")
    assert "'tea' has no history: no worker with the prefix 'rooms'" in done.err


@pytest.mark.parametrize("arguments", [("history", ROOM), ("tail", ROOM, "--since", "x")])
async def test_who_may_not_read_it_is_told_what_is_missing(
    arguments: tuple[str, ...], own_redis: RedisServer, url: str
) -> None:
    eve = url.replace("//", "//eve:x@")
    rules = ("on", "nopass", "resetchannels", "&rooms#*", "+publish", "+subscribe", "+unsubscribe")
    own_redis.command("ACL", "SETUSER", "eve", *rules)
    done = await run(*arguments, url=eve)
    assert done.code == 1
    assert "ACL SETUSER <user> ~rooms:* +hgetall" in done.err
    own_redis.command("ACL", "SETUSER", "eve", "~rooms:*", "+hgetall")
    done = await run(*arguments, url=eve)
    assert done.code == 1
    assert "the user of Redis may not do what history needs" in done.err


async def test_nobody_there_is_a_failure() -> None:
    done = await run("history", ROOM, "--timeout", "1", url="redis://127.0.0.1:1")
    assert (done.code, done.out) == (1, "")
    assert "connect" in done.err


async def test_sentinels_lead_to_it(sentinel_servers: SentinelServers) -> None:
    async with worker(sentinel_servers.url) as rooms:
        await rooms.clear_history(ROOM)
        await rooms.to(ROOM).send_text("hello")
        done = await run("history", ROOM, url=sentinel_servers.url)
        assert [m["text"] for m in lines(done.out)] == ["hello"]
    sentinel_servers.master.admin.flushall()  # they are for other tests, too


async def test_a_cluster_leads_to_it(redis_cluster: RedisCluster) -> None:
    url = redis_cluster.url
    async with worker(url) as rooms:
        since = await rooms.position(ROOM)
        assert (await run("emit", ROOM, "The kettle is on", url=url)).code == 0
        assert (await run("emit", ROOM, "other", "hello", url=url)).code == 2
        done = await run("history", ROOM, url=url)
        position = await rooms.position(ROOM)
        message = {"room": ROOM, "text": "The kettle is on", "position": position}
        assert (done.code, lines(done.out)) == (0, [message])
        done = await run("tail", ROOM, "--since", since, "--count", "1", url=url)
        assert (done.code, lines(done.out)) == (0, [message])
        assert rooms.health.unkept == 0
        code, found = await findings(url)
        assert code == 0
        assert found["history"]["text"] == "chat-* in / (the last 20 messages, 1h)"
        assert found["history rights"]["grade"] == "ok"
        assert found["eviction"]["grade"] == "unknown"
        for node in redis_cluster.nodes:
            node.command("ACL", "SETUSER", "eve", "on", ">x", "allkeys", "allchannels", "+@all")
        redis_cluster.nodes[-1].command("ACL", "SETUSER", "eve", "-xadd")
        code, found = await findings(f"redis+cluster://eve:x@{url.partition('@')[2]}")
        assert (code, found["history rights"]["grade"]) == (1, "wrong"), "at one node of three"
        assert "+xadd" in found["history rights"]["text"]
    for node in redis_cluster.nodes:
        node.command("ACL", "DELUSER", "eve")
        node.command("FLUSHALL")


# tail


async def test_tail_goes_on_behind_a_position(
    rooms: RoomManager, own_redis: RedisServer, url: str
) -> None:
    await rooms.to(ROOM).send_text("before")
    since = await rooms.position(ROOM)
    await rooms.to(ROOM).send_text("missed")
    tail = await tailing(ROOM, "--since", since, "--count", "2", url=url)
    await rooms.to(ROOM).send_text("live")
    done = await tail
    assert (done.code, done.err) == (0, "")
    heard = lines(done.out)
    assert [m["text"] for m in heard] == ["missed", "live"]
    assert heard[-1]["position"] == await rooms.position(ROOM)


async def test_tail_says_that_a_position_is_gone(
    rooms: RoomManager, own_redis: RedisServer, url: str
) -> None:
    tail = await tailing(ROOM, "--since", "nonsense", "--count", "1", url=url)
    await rooms.to(ROOM).send_text("live")
    done = await tail
    assert [m["text"] for m in lines(done.out)] == ["live"]
    assert "does not know this position any more" in done.err


@pytest.mark.parametrize(
    "arguments", [(), ("a", "b"), ("a", "--everyone"), ("--everyone",)], ids=" ".join
)
async def test_a_position_is_one_in_one_room(arguments: tuple[str, ...], url: str) -> None:
    done = await run("tail", *arguments, "--since", "x", url=url)
    assert (done.code, done.out) == (2, "")


async def test_tail_shows_positions_in_json_whatever_it_may_read(
    rooms: RoomManager, own_redis: RedisServer, url: str
) -> None:
    rules = ("on", "nopass", "resetchannels", "&rooms#*", "+publish", "+subscribe", "+unsubscribe")
    own_redis.command("ACL", "SETUSER", "eve", *rules)
    eve = url.replace("//", "//eve:x@")
    tail = await tailing(ROOM, "plain", "--count", "2", url=eve)
    await rooms.to(ROOM).send_text("kept")
    await rooms.to("plain").send_text("not kept")
    assert sorted(lines((await tail).out), key=lambda m: m["room"]) == [
        {"room": ROOM, "text": "kept", "position": await rooms.position(ROOM)},
        {"room": "plain", "text": "not kept"},
    ]


# doctor


async def test_doctor_checks_what_histories_depend_on(own_redis: RedisServer, url: str) -> None:
    code, found = await findings(url)
    assert code == 0
    assert found["history"]["text"] == "chat-* in / (the last 20 messages, 1h)"
    assert found["history rights"]["grade"] == found["eviction"]["grade"] == "ok"
    assert found["persistence"]["grade"] == "note"
    own_redis.command("CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "volatile-lru")
    own_redis.command("CONFIG", "SET", "save", "3600 1")
    code, found = await findings(url)
    assert (code, found["eviction"]["grade"], found["persistence"]["grade"]) == (0, "note", "ok")
    assert "noeviction" in found["eviction"]["advice"]


async def test_doctor_leaves_nothing_in_a_history(own_redis: RedisServer) -> None:
    rooms = RoomManager(own_redis.url)
    rooms.history("*")
    async with rooms:
        code, found = await findings(own_redis.url)
        assert (code, found["round trip"]["grade"]) == (0, "ok")
        assert own_redis.command("KEYS", "*") == [b"rooms:declared"]


async def test_doctor_names_the_rights_that_are_missing(own_redis: RedisServer, url: str) -> None:
    rules = ("on", "nopass", "resetchannels", "&rooms#*", "+publish", "+subscribe", "+unsubscribe")
    own_redis.command("ACL", "SETUSER", "eve", *rules)
    eve = url.replace("//", "//eve:x@")
    code, found = await findings(eve)
    assert (code, found["history"]["grade"]) == (0, "unknown")
    assert "+hgetall" in found["history"]["text"]
    own_redis.command("ACL", "SETUSER", "eve", "~rooms:*", "+hgetall")
    code, found = await findings(eve)
    assert (code, found["history rights"]["grade"]) == (1, "wrong")
    assert "+evalsha" in found["history rights"]["text"]
    assert found["eviction"]["grade"] == "unknown"


async def test_doctor_knows_no_settings_of_several_servers(
    sentinel_servers: SentinelServers,
) -> None:
    async with worker(sentinel_servers.url):
        code, found = await findings(sentinel_servers.url)
        assert code == 0
        assert found["history rights"]["grade"] == "ok"
        assert found["eviction"]["grade"] == "unknown"
    sentinel_servers.master.admin.flushall()


@pytest.mark.parametrize(
    ("finding", "grade", "text"),
    [
        (eviction("0", "allkeys-lru"), "ok", "no maxmemory"),
        (eviction("1000000", "noeviction"), "ok", "raises AdapterUnavailable"),
        (eviction("1000000", "volatile-ttl"), "note", "volatile-ttl"),
        (eviction("1000000", "allkeys-lru"), "note", "driven out"),
        (persistence("", "no", "everysec"), "note", "loses all"),
        (persistence("3600 1 300 100", "no", "everysec"), "ok", "save 3600 1 300 100"),
        (persistence("", "yes", "everysec"), "ok", "the last second"),
        (persistence("", "yes", "always"), "ok", "loses nothing"),
        (persistence("3600 1", "yes", "no"), "ok", "the system had not written"),
    ],
)
def test_what_becomes_of_histories(finding: Finding, grade: str, text: str) -> None:
    assert finding.grade.name.lower() == grade
    assert text in finding.text
    assert bool(finding.advice) is (grade == "note")
