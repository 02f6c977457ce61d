"""Emitters that ask who is present, beside workers, on every kind of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    Emitter,
    InvalidRoomName,
    Presence,
    PresentUser,
    RedisAdapter,
    RoomManager,
    UsageError,
)
from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Entry, Lease, SupportsPresence, Terms
from fastapi_rooms.adapters.redis.emit_clients.senders import AsyncSender, SyncSender
from fastapi_rooms.adapters.redis.emit_clients.turns import Turn
from fastapi_rooms.testing import Member, RedisServer, eventually
from tests.conformance.test_emitter import WAYS, Way, close, emitter, way
from tests.emitters import AnyEmitter, answered, declare_presence

__all__ = ["emitter", "way"]  # fixtures

to_every_redis = pytest.mark.parametrize(
    "way", [name for name in WAYS if name != "RabbitMQ"], indirect=True
)
on_every_kind_of_key = pytest.mark.parametrize("way", ["url", "cluster"], indirect=True)


async def is_empty(emitter: AnyEmitter, room: str) -> bool:
    return not await answered(emitter.presence.count(room))


class Worker(NamedTuple):
    rooms: RoomManager
    presence: Presence


@pytest.fixture
async def workers(way: Way) -> AsyncIterator[list[Worker]]:
    managers = [RoomManager(way.adapter()) for _ in "12"]
    workers = [Worker(m, m.presence("chat-*", user="name", grace=0)) for m in managers]
    for manager in managers:
        manager.of("/bar").presence("*", user="name", grace=0)
    async with managers[0], managers[1]:
        yield workers


@to_every_redis
async def test_an_emitter_is_told_what_a_worker_is_told(
    workers: list[Worker], emitter: AnyEmitter
) -> None:
    (one, presence), (two, _) = workers
    asked = emitter.presence
    async with (
        Member(one, "chat-tea", data={"name": "ann"}) as ann,
        Member(two, "chat-tea", data={"name": "ann"}) as tab,
        Member(two, "chat-tea", "chat-milk", data={"name": "bøb"}) as bob,
        Member(one.of("/bar"), "chat-tea", data={"name": "eve"}) as eve,
    ):
        present = await answered(asked.users("chat-tea"))
        users = {user.user: set(user.sids) for user in present.users}
        assert users == {"ann": {ann.sid, tab.sid}, "bøb": {bob.sid}}
        told = await presence.users("chat-tea")
        assert (present.room, present.version) == ("chat-tea", told.version)
        assert await answered(asked.count("chat-tea")) == 2
        assert await answered(asked.is_present("bøb", "chat-milk")) is True
        assert await answered(asked.is_present("ann", "chat-milk")) is False
        assert await answered(asked.rooms("bøb")) == {"chat-tea", "chat-milk"}
        bar = emitter.of("/bar").presence
        (only,) = (await answered(bar.users("chat-tea"))).users
        assert only == PresentUser("eve", (eve.sid,))
        assert await answered(bar.rooms("bøb")) == set()
    await eventually(lambda: is_empty(emitter, "chat-tea"))


@on_every_kind_of_key
async def test_in_a_room_that_everybody_has_left_nobody_is_present(
    workers: list[Worker], emitter: AnyEmitter
) -> None:
    assert workers
    asked = emitter.presence
    present = await answered(asked.users("chat-nowhere"))
    assert (present.room, present.version, present.users) == ("chat-nowhere", 0, ())
    assert await answered(asked.count("chat-nowhere")) == 0
    assert await answered(asked.is_present("ann", "chat-nowhere")) is False
    assert await answered(asked.rooms("nobody")) == set()


@on_every_kind_of_key
async def test_a_room_that_no_worker_has_declared_is_told_from_an_empty_one(
    workers: list[Worker], emitter: AnyEmitter
) -> None:
    (_, presence), _ = workers
    with pytest.raises(UsageError, match="'tea' does not know who is present"):
        await presence.users("tea")  # a manager says so, too
    for ask in (
        lambda: emitter.presence.users("tea"),
        lambda: emitter.presence.count("tea"),
        lambda: emitter.presence.is_present("ann", "tea"),
        lambda: emitter.of("/chat").presence.users("chat-tea"),
    ):
        with pytest.raises(UsageError, match="has declared it in the namespace"):
            await answered(ask())
    with pytest.raises(UsageError, match="No room of the namespace '/chat' knows"):
        await answered(emitter.of("/chat").presence.rooms("ann"))


@on_every_kind_of_key
async def test_who_is_in_their_grace_is_present_without_a_socket(
    way: Way, emitter: AnyEmitter
) -> None:
    rooms = RoomManager(way.adapter())
    rooms.presence("chat-*", user="name", grace=0.3)
    async with rooms:
        async with Member(rooms, "chat-tea", data={"name": "ann"}):
            pass

        async def has_no_socket() -> bool:
            present = await answered(emitter.presence.users("chat-tea"))
            return present.users == (PresentUser("ann", ()),)

        await eventually(has_no_socket)
        await eventually(lambda: is_empty(emitter, "chat-tea"))


@on_every_kind_of_key
async def test_a_large_room_is_read_in_pages_between_which_others_have_their_turn(
    way: Way, emitter: AnyEmitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    for kind in (SyncSender, AsyncSender):
        take = kind._take

        def counted(self: Any, turn: Turn, *rest: Any, take: Any = take) -> Any:
            assert not self._turn.locked()
            asked.append(turn)
            return take(self, turn, *rest)

        monkeypatch.setattr(kind, "_take", counted)
    adapter = way.adapter()
    manager = RoomManager(adapter)
    manager.presence("chat-*")
    async with manager:
        assert isinstance(adapter, SupportsPresence)
        lease = (await adapter.beat(Lease("a" * 16, 0), 60, reaps=False)).lease
        entries = [Entry(f"sid {n}", f"user {n // 2}") for n in range(2000)]
        room, terms = RoomKey(b"/#chat-hall", b"channel"), Terms(0)
        await adapter.change(room, lease, terms, enter=entries)
        present = await answered(emitter.presence.users("chat-hall"))
        assert len(asked) > 5
        assert len(present.users) == await answered(emitter.presence.count("chat-hall")) == 1000
        found = [(sid, user.user) for user in present.users for sid in user.sids]
        assert sorted(found) == sorted(entries)
        await adapter.change(room, lease, terms, leave=[entry.sid for entry in entries])
        await adapter.bury(lease)


# What has to hold on one Redis as on any other.


@pytest.fixture(params=[Emitter, AsyncEmitter])
async def asking(
    request: pytest.FixtureRequest, own_redis: RedisServer
) -> AsyncIterator[AnyEmitter]:
    emitter: AnyEmitter = request.param(own_redis.url)
    yield emitter
    await close(emitter)


async def test_where_no_worker_has_declared_anything_it_is_said_and_is_over_with_the_first(
    asking: AnyEmitter, own_redis: RedisServer
) -> None:
    asked = asking.presence
    for ask in (lambda: asked.users("chat-tea"), lambda: asked.rooms("ann")):
        with pytest.raises(UsageError, match="started yet, with this Redis and this prefix"):
            await answered(ask())
    rooms = RoomManager(own_redis.url)
    rooms.presence("chat-*", user="name")
    async with rooms:
        assert await answered(asked.count("chat-tea")) == 0, "at once"
        assert await answered(asked.rooms("ann")) == set()
    assert await answered(asked.count("chat-tea")) == 0, "what was declared outlives the workers"


async def test_what_others_have_written_there_is_not_believed(
    asking: AnyEmitter, own_redis: RedisServer
) -> None:
    declare_presence(own_redis)
    truth, user = "rooms:presence:{/#tea}", "rooms:user:/#ann"
    for name in ("/#tea", "/bar#milk", "tea", "/#", "#tea", "/#" + "x" * 256, b"/#\xff", "/#milk"):
        own_redis.command("SADD", user, name)
        if isinstance(name, str):
            own_redis.command("HSET", f"rooms:presence:{{{name}}}", "uann", "1")
    own_redis.command("DEL", "rooms:presence:{/#milk}")
    fields = {"v": "-7", "n": "many", "smine": "eve", f"s{'a' * 16}sid": "ann", "u": "1", "uz": "z"}
    for field, value in fields.items():
        own_redis.command("HSET", truth, field, value)
    own_redis.command("HSET", truth, b"u\xff", "1")
    presence = asking.presence
    present = await answered(presence.users("tea"))
    assert (present.version, present.users) == (0, (PresentUser("ann", ("sid",)),))
    assert await answered(presence.count("tea")) == 0
    assert await answered(presence.rooms("ann")) == {"tea"}
    async with RoomManager(adapter := RedisAdapter(own_redis.url)):  # a worker believes no more
        assert await adapter.rooms_of_user("/", "ann") == ["tea"]


async def test_no_answer_changes_anything(asking: AnyEmitter, own_redis: RedisServer) -> None:
    declare_presence(own_redis)
    before = own_redis.command("HGETALL", "rooms:declared")
    own_redis.command("SADD", "rooms:user:/#ann", "/#left")  # which a worker would tidy up
    presence = asking.presence
    assert await answered(presence.rooms("ann")) == set()
    await answered(presence.users("tea"))
    assert sorted(own_redis.command("KEYS", "*")) == [b"rooms:declared", b"rooms:user:/#ann"]
    assert own_redis.command("HGETALL", "rooms:declared") == before


async def test_a_redis_that_was_emptied_is_not_taken_for_one_where_nothing_was_declared(
    asking: AnyEmitter, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.adapters.redis.declared.known.READ_INTERVAL", 0)
    declare_presence(own_redis, "tea")
    assert await answered(asking.presence.count("tea")) == 0
    own_redis.admin.flushall()
    assert await answered(asking.presence.count("tea")) == 0, "the workers declare it again"
    declare_presence(own_redis, "coffee")
    with pytest.raises(UsageError, match="'tea' does not know"):
        await answered(asking.presence.count("tea"))


async def test_something_else_in_the_key_of_what_is_declared_is_said(
    asking: AnyEmitter, own_redis: RedisServer
) -> None:
    own_redis.command("SET", "rooms:declared", "something else")
    with pytest.raises(AdapterUnavailable, match=r"refused to say .* a prefix of its own"):
        await answered(asking.presence.count("tea"))
    own_redis.command("DEL", "rooms:declared")
    fields = {f"presence /#{number}": "{}" for number in range(10_001)}
    own_redis.admin.hset("rooms:declared", mapping=dict(fields.items()))
    with pytest.raises(AdapterUnavailable, match="makes no sense: it has 10001 fields"):
        await answered(asking.presence.count("tea"))


@pytest.mark.parametrize("name", ["", "x" * 256])
async def test_what_can_be_no_name_is_refused(name: str, asking: AnyEmitter) -> None:
    presence = asking.presence
    for what, ask in (
        ("room name", lambda: presence.users(name)),
        ("room name", lambda: presence.count(name)),
        ("room name", lambda: presence.is_present("ann", name)),
        ("user", lambda: presence.is_present(name, "tea")),
        ("user", lambda: presence.rooms(name)),
    ):
        with pytest.raises(InvalidRoomName, match=f"^A {what} must be"):
            await answered(ask())
