"""Emitters and rooms that remember, on a real Redis or cluster: what they send is kept, too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import redis
import redis.asyncio

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter, RoomManager, UsageError
from fastapi_rooms.testing import (
    Member,
    RedisCluster,
    RedisServer,
    SentinelServers,
    eventually,
)
from tests.conformance.backplanes import slots_are_at_rest
from tests.emitters import AnyEmitter, done

ROOM = "chat-tea"
KINDS = [Emitter, AsyncEmitter]
RULES = [
    *("~rooms:*", "+hgetall", "+eval", "+evalsha"),
    *("+set", "+get", "+hmget", "+hset", "+pexpire", "+xadd", "+del"),
]
"""What an emitter needs for history, beside +publish."""


def worker(url: str, *patterns: str, size: int = 20, observer: bool = False) -> RoomManager:
    rooms = RoomManager(url, observer=observer)
    for pattern in patterns or ("chat-*",):
        rooms.history(pattern, size=size, ttl=60)
    return rooms


@asynccontextmanager
async def closing(emitter: AnyEmitter) -> AsyncIterator[AnyEmitter]:
    try:
        yield emitter
    finally:
        await done(emitter.close())


class Servers(NamedTuple):
    """One Redis, or the nodes of a cluster."""

    url: str
    nodes: Sequence[RedisServer]

    def command(self, *command: str) -> list[Any]:
        """Have all of them do something."""
        return [node.command(*command) for node in self.nodes]

    def calls(self, command: str) -> int:
        return sum(node.calls(command) for node in self.nodes)

    @property
    def with_declarations(self) -> list[RedisServer]:
        """The node that has the key which workers write to, if one has."""
        return [node for node in self.nodes if node.command("KEYS", "rooms:declared")]

    def declared(self) -> set[bytes]:
        """The fields that workers have written."""
        return {
            f for node in self.with_declarations for f in node.command("HKEYS", "rooms:declared")
        }


@pytest.fixture(params=["redis", "cluster"])
def servers(
    request: pytest.FixtureRequest, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Servers]:
    if request.param == "redis":
        yield Servers(own_redis.url, [own_redis])
        return
    slots_are_at_rest(monkeypatch)
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    yield (servers := Servers(cluster.url, cluster.nodes))
    servers.command("FLUSHALL")


@pytest.fixture(params=KINDS)
async def emitter(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[AnyEmitter]:
    async with closing(request.param(servers.url)) as emitter:
        yield emitter


async def _texts(rooms: RoomManager, room: str = ROOM) -> list[str]:
    return [message.text for message in await rooms.recent(room)]


async def test_what_is_sent_has_its_place_among_all_others(
    servers: Servers, emitter: AnyEmitter
) -> None:
    one, two = worker(servers.url), worker(servers.url)
    async with one, two, Member(one, ROOM) as ann, Member(two, ROOM) as bob:
        for n in range(3):
            await done(emitter.to(ROOM).send_text(f"emitted {n}"))
            await two.to(ROOM).send_text(f"sent {n}")
        expected = [f"{how} {n}" for n in range(3) for how in ("emitted", "sent")]
        for member in (ann, bob):
            assert [await member.receive() for _ in expected] == expected
        assert await _texts(one) == expected
        assert ann.socket.position(ROOM) == bob.socket.position(ROOM) == await one.position(ROOM)
        assert one.health.unkept == two.health.unkept == 0


async def test_who_was_away_gets_it(servers: Servers, emitter: AnyEmitter) -> None:
    async with worker(servers.url) as rooms:
        since = await rooms.position(ROOM)
        await done(emitter.to(ROOM).send_bytes(b"\x00\xff"))
        await done(emitter.to(ROOM).except_("muted").send_json({"kettle": "on"}))
        async with Member(rooms) as ann, Member(rooms, "muted") as bob:
            assert (await ann.socket.join(ROOM, since=since)).recovered is True
            assert (await bob.socket.join(ROOM, since=since)).recovered is True
            assert [await ann.receive() for _ in "12"] == [b"\x00\xff", '{"kettle":"on"}']
            assert await bob.receive() == b"\x00\xff"
            await done(emitter.to(ROOM).send_text("end"))
            assert await bob.receive() == "end"


async def test_what_is_not_for_one_such_room_goes_as_ever(
    servers: Servers, emitter: AnyEmitter
) -> None:
    async with worker(servers.url) as rooms, Member(rooms, ROOM, "plain") as ann:
        await done(emitter.to(ROOM).volatile.send_text("volatile"))
        await done(emitter.to("plain").send_text("to another"))
        await done(emitter.of("/chat").to(ROOM).send_text("in another namespace"))
        await done(emitter.to(ann.sid).send_text("to her"))
        await done(emitter.send_text("to all"))
        heard = [await ann.receive() for _ in "1234"]
        assert heard == ["volatile", "to another", "to her", "to all"]
        assert await _texts(rooms) == []
        assert rooms.health.unkept == 0


async def test_such_a_room_is_addressed_alone(servers: Servers, emitter: AnyEmitter) -> None:
    async with worker(servers.url) as rooms:
        with pytest.raises(UsageError) as of_the_worker:
            await rooms.to("plain", ROOM).send_text("hello")
        with pytest.raises(UsageError) as of_the_emitter:
            await done(emitter.to("plain", ROOM).send_text("hello"))
        assert str(of_the_emitter.value) == str(of_the_worker.value)
        await done(emitter.to(ROOM).send_text("alone"))
        assert await _texts(rooms) == ["alone"]


async def test_a_redis_that_forgets_scripts_is_told_them_again(
    servers: Servers, emitter: AnyEmitter
) -> None:
    async with worker(servers.url) as rooms:
        await done(emitter.to(ROOM).send_text("1"))
        servers.command("SCRIPT", "FLUSH")
        await done(emitter.to(ROOM).send_text("2"))
        await done(emitter.to(ROOM).send_text("3"))
        assert await _texts(rooms) == ["1", "2", "3"]
        assert servers.calls("eval") >= 2


async def test_tasks_and_threads_that_share_one_lose_no_message(servers: Servers) -> None:
    async with worker(servers.url, size=200) as rooms:
        async with AsyncEmitter(servers.url) as emitter:
            sending = [emitter.to(ROOM).send_text(f"{n}") for n in range(100)]
            await asyncio.gather(*sending)
        assert [m.text for m in await rooms.recent(ROOM, 200)] == [f"{n}" for n in range(100)]
        with Emitter(servers.url) as blocking:
            room = blocking.to(ROOM)
            threads = [asyncio.to_thread(room.send_text, f"thread {n}") for n in range(20)]
            await asyncio.gather(*threads)
        found = {m.text for m in await rooms.recent(ROOM, 20)}
        assert found == {f"thread {n}" for n in range(20)}


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_client_of_ones_own_does_it_too(own_redis: RedisServer, protocol: int) -> None:
    options: Any = {"decode_responses": True, "protocol": protocol}
    async with worker(own_redis.url) as rooms:
        with redis.Redis.from_url(own_redis.url, **options) as client:
            Emitter(client).to(ROOM).send_text("blocking")
        async with redis.asyncio.Redis.from_url(own_redis.url, **options) as client:
            await AsyncEmitter(client).to(ROOM).send_text("awaited")
        assert await _texts(rooms) == ["blocking", "awaited"]


async def test_a_cluster_client_of_ones_own_does_it_too(
    redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots_are_at_rest(monkeypatch)
    url, options = redis_cluster.nodes[0].url, {"decode_responses": True}
    async with worker(redis_cluster.url) as rooms:
        client: Any = redis.RedisCluster.from_url(url, **options)
        Emitter(client).to(ROOM).send_text("blocking")
        client.close()
        client = redis.asyncio.RedisCluster.from_url(url, **options)
        await AsyncEmitter(client).to(ROOM).send_text("awaited")
        await client.aclose()
        assert await _texts(rooms) == ["blocking", "awaited"]
    for node in redis_cluster.nodes:
        node.command("FLUSHALL")


@pytest.mark.parametrize("kind", KINDS)
async def test_sentinels_lead_to_it_too(
    kind: type[AnyEmitter], sentinel_servers: SentinelServers
) -> None:
    async with worker(sentinel_servers.url) as rooms, closing(kind(sentinel_servers.url)) as it:
        await rooms.clear_history(ROOM)
        await done(it.to(ROOM).send_text("hello"))
        assert await _texts(rooms) == ["hello"]
    sentinel_servers.master.admin.flushall()  # they are for other tests, too


async def test_what_was_sent_while_no_worker_ran_is_kept(
    servers: Servers, emitter: AnyEmitter
) -> None:
    async with worker(servers.url):
        pass
    await done(emitter.to(ROOM).send_text("by night"))
    async with worker(servers.url) as rooms:
        assert await _texts(rooms) == ["by night"]


# Rights.


def as_user(server: RedisServer, *rules: str) -> str:
    server.command("ACL", "SETUSER", "eve", "on", "nopass", "resetchannels", "&rooms#*", *rules)
    return server.url.replace("redis://", "redis://eve:x@")


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_only_publish_sends_plain_and_both_logs_say_so_once(
    kind: type[AnyEmitter], own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = as_user(own_redis, "+publish")
    async with worker(own_redis.url) as rooms, Member(rooms, ROOM) as ann:
        async with closing(kind(url)) as emitter:
            with caplog.at_level(logging.WARNING, "fastapi_rooms"):
                for text in ("1", "2"):
                    await done(emitter.to(ROOM).send_text(text))
                    assert await ann.receive() == text
        assert await _texts(rooms) == []
        assert rooms.health.unkept == 2
        of_the_emitter, of_the_worker = [record.getMessage() for record in caplog.records]
        assert f"ACL SETUSER <user> {' '.join(RULES)}" in of_the_emitter
        assert repr(ROOM) in of_the_worker
        assert "health.unkept" in of_the_worker


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rights_that_are_named_are_enough_and_each_is_needed(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    url = as_user(own_redis, "+publish", *RULES)
    async with worker(own_redis.url) as rooms, closing(kind(url)) as emitter:
        await done(emitter.to(ROOM).send_text("allowed"))
        for rule in RULES[4:]:
            as_user(own_redis, rule.replace("+", "-"))
            async with closing(kind(url)) as other:
                with pytest.raises(AdapterUnavailable, match=rf"ACL SETUSER <user> \{rule}") as why:
                    await done(other.to(ROOM).send_text("forbidden"))
                assert not why.value.uncertain
                as_user(own_redis, rule)
                await done(other.to(ROOM).send_text(rule))
        assert await _texts(rooms) == ["allowed", *RULES[4:]]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_another_kind_is_none_that_says_anything(
    kind: type[AnyEmitter], own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.command("SET", "rooms:declared", "something else")
    async with closing(kind(own_redis.url)) as emitter:
        await done(emitter.to(ROOM).send_text("plain"))
    assert "WRONGTYPE" in caplog.text or "wrong kind" in caplog.text


async def test_a_worker_without_the_rights_says_so_from_its_start(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    url = as_user(own_redis, "+publish", "+subscribe", "+unsubscribe", "~rooms:*", *RULES[1:])
    async with worker(url) as rooms:
        await eventually(lambda: "history needs" in caplog.text)
        assert rooms.health.ready, "plain rooms do not suffer"
        as_user(own_redis, "+hdel", "+hsetnx", "+xrange", "+xrevrange")


@pytest.mark.parametrize("kind", KINDS)
async def test_the_rights_that_are_named_are_enough_in_a_cluster(
    kind: type[AnyEmitter], redis_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots_are_at_rest(monkeypatch)

    def allow(*rules: str) -> None:
        for node in redis_cluster.nodes:
            node.command("ACL", "SETUSER", "eve", *rules)

    allow("on", ">x", "resetchannels", "&rooms#*", "+spublish", "+cluster|slots", "+command")
    allow(*RULES)
    _, _, address = redis_cluster.url.partition("@")
    url, names = f"redis+cluster://eve:x@{address}", [f"chat-{n}" for n in range(20)]
    async with worker(redis_cluster.url) as rooms:
        async with closing(kind(url)) as emitter:
            for name in names:  # at every node
                await done(emitter.to(name).send_text("allowed"))
                assert await _texts(rooms, name) == ["allowed"]
        for rule in ("-xadd", "-spublish"):
            allow(rule)
            async with closing(kind(url)) as emitter:
                with pytest.raises(AdapterUnavailable, match=rf"\{rule.replace('-', '+')}"):
                    await done(emitter.to(ROOM).send_text("forbidden"))
            allow(rule.replace("-", "+"))
        assert await _texts(rooms) == []
    for node in redis_cluster.nodes:
        node.command("ACL", "DELUSER", "eve")
        node.command("FLUSHALL")


# What workers declare.


async def test_patterns_of_all_versions_are_there_and_of_one_the_last_word(
    servers: Servers, emitter: AnyEmitter
) -> None:
    old = worker(servers.url, "chat-*", "old-*")
    async with old, worker(servers.url, "chat-*", "new-*", size=1) as new:
        assert servers.declared() == {b"history /#chat-*", b"history /#old-*", b"history /#new-*"}
        for n in range(4):
            await done(emitter.to(ROOM).send_text(f"{n}"))
        assert (await _texts(new))[-1] == "3"
        assert "1" not in await _texts(new), "it is as short as the last declared"


async def test_namespaces_declare_their_own(servers: Servers, emitter: AnyEmitter) -> None:
    rooms = RoomManager(servers.url)
    chat = rooms.of("/chat")
    chat.history("*")
    async with rooms:
        await done(emitter.of("/chat").to("tea").send_text("kept"))
        await done(emitter.to("tea").send_text("not kept"))
        assert [m.text for m in await chat.recent("tea")] == ["kept"]
        assert servers.declared() == {b"history /chat#*"}


async def test_what_redis_has_forgotten_is_declared_after_the_reconnect(
    own_redis: RedisServer,
) -> None:
    async with worker(own_redis.url):
        await asyncio.to_thread(own_redis.restart)
        await eventually(lambda: own_redis.admin.exists("rooms:declared") == 1)


async def test_without_a_history_nothing_is_written(servers: Servers) -> None:
    async with RoomManager(servers.url), worker(servers.url, observer=True):
        assert servers.declared() == set()


async def test_a_declaration_that_no_worker_repeats_is_removed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.worker.declaring.REPEAT", 0.01)
    monkeypatch.setattr("fastapi_rooms.adapters.redis.declared.form.STALE", 0.1)
    async with worker(servers.url, "old-*"):
        pass
    (node,) = servers.with_declarations
    node.command("HSET", "rooms:declared", "not one", "at all")
    async with worker(servers.url), worker(servers.url, "new-*"):
        await eventually(lambda: node.admin.hlen("rooms:declared") == 2)
        assert servers.declared() == {b"history /#chat-*", b"history /#new-*"}


async def test_a_worker_that_has_not_declared_it_delivers_it_all_the_same(
    servers: Servers, emitter: AnyEmitter
) -> None:
    async with (
        worker(servers.url) as new,
        RoomManager(servers.url) as old,
        Member(new, ROOM) as ann,
        Member(old, ROOM) as bob,
        Member(old, ROOM, "muted") as cem,
        old.listen(ROOM) as messages,
    ):
        await done(emitter.to(ROOM).except_("muted").send_text("emitted"))
        await new.to(ROOM).send_text("sent")
        assert [await bob.receive() for _ in "12"] == ["emitted", "sent"]
        assert await cem.receive() == "sent"
        assert bob.socket.position(ROOM) is None
        heard = [await anext(messages) for _ in "12"]
        assert [m.text for m in heard] == ["emitted", "sent"]
        assert heard[-1].position == await new.position(ROOM)
        assert [await ann.receive() for _ in "12"] == ["emitted", "sent"]
        await old.to(ROOM).send_text("plain")
        assert await ann.receive() == await bob.receive() == "plain"
        assert new.health.unkept == 1
