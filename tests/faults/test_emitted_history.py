"""Emitters and rooms that remember, with a Redis that is gone, mute, cut off or full."""

from __future__ import annotations

import asyncio

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter, RoomManager
from fastapi_rooms.adapters.declarations import STALE
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.redis.declared import known
from fastapi_rooms.adapters.redis.history import emitted, once
from fastapi_rooms.adapters.redis.history.script import Message
from fastapi_rooms.testing import Direction, Member, Proxy, RedisServer, eventually
from tests.emitters import AnyEmitter, done
from tests.faults.support import manager

ROOM = "chat-tea"
KINDS = [Emitter, AsyncEmitter]


def worker(server: RedisServer) -> RoomManager:
    rooms = manager(server)
    rooms.history("chat-*", size=20, ttl=60)
    return rooms


def in_the_background(emitter: AnyEmitter, text: str) -> asyncio.Future[None]:
    """Send to the room; the wire is served by this event loop, so it must not be blocked."""
    if isinstance(emitter, AsyncEmitter):
        return asyncio.ensure_future(emitter.to(ROOM).send_text(text))
    return asyncio.ensure_future(asyncio.to_thread(emitter.to(ROOM).send_text, text))


def with_retries(kind: type[AnyEmitter], url: str) -> AnyEmitter:
    """An emitter with a client of one's own, which repeats what fails three times."""
    if kind is Emitter:
        retry = redis.retry.Retry(NoBackoff(), 3)
        return Emitter(redis.Redis.from_url(url, retry=retry))
    async_retry = redis.asyncio.retry.Retry(NoBackoff(), 3)
    return AsyncEmitter(redis.asyncio.Redis.from_url(url, retry=async_retry))


async def texts(rooms: RoomManager) -> list[str]:
    return [message.text for message in await rooms.recent(ROOM)]


@pytest.mark.parametrize("own_client", [False, True], ids=["url", "own client"])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_sent_again_because_no_answer_came_is_kept_once(
    kind: type[AnyEmitter], own_client: bool, own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(own_redis) as rooms, Member(rooms, ROOM) as ann:
        emitter = with_retries(kind, url) if own_client else kind(url)
        await in_the_background(emitter, "first")
        wire.stall(Direction.TO_CLIENT)
        sending = in_the_background(emitter, "second")
        assert [await ann.receive() for _ in "12"] == ["first", "second"]
        before = own_redis.calls("evalsha")
        wire.cut()
        wire.resume()
        await sending
        assert own_redis.calls("evalsha") > before, "it was sent again"
        await in_the_background(emitter, "third")
        assert await ann.receive() == "third"
        assert await texts(rooms) == ["first", "second", "third"]
        assert rooms.health.reconnects == 0
        if own_client:
            client = emitter._access.open()
            await done(client.close() if kind is Emitter else client.aclose())
        await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_written_and_not_answered_is_uncertain(
    kind: type[AnyEmitter], own_redis: RedisServer, wire: Proxy
) -> None:
    async with worker(own_redis) as rooms, Member(rooms, ROOM) as ann:
        emitter = kind(own_redis.url_of(wire.host, wire.port), timeout=1)
        await in_the_background(emitter, "first")
        wire.stall(Direction.TO_CLIENT)
        with pytest.raises(AdapterUnavailable) as why:
            await in_the_background(emitter, "second")
        assert why.value.uncertain
        assert [await ann.receive() for _ in "12"] == ["first", "second"]
        wire.cut()
        wire.resume()
        await in_the_background(emitter, "third")
        assert await texts(rooms) == ["first", "second", "third"]
        await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_not_written_is_certainly_not_kept(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url)
    async with worker(own_redis):
        await done(emitter.to(ROOM).send_text("hello"))
    own_redis.stop()
    for certain in (False, True):  # the connection that there was is lost; there is none
        with pytest.raises(AdapterUnavailable) as why:
            await done(emitter.to(ROOM).send_text("hello"))
        assert why.value.uncertain is not certain
    await done(emitter.close())


async def test_waiting_for_ones_turn_is_not_to_have_been_written(own_redis: RedisServer) -> None:
    async with worker(own_redis):
        emitter = AsyncEmitter(own_redis.url, timeout=1)
        await emitter.to(ROOM).send_text("first")
        own_redis.freeze()
        sending = [asyncio.ensure_future(emitter.to(ROOM).send_text(text)) for text in "1234"]
        errors = await asyncio.gather(*sending, return_exceptions=True)
        own_redis.thaw()
        assert all(isinstance(error, AdapterUnavailable) for error in errors)
        assert [getattr(errors[at], "uncertain", None) for at in (0, -1)] == [True, False]
        await emitter.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_full_memory_is_said_and_nobody_hears_half_of_it(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url)
    async with worker(own_redis) as rooms, Member(rooms, ROOM) as ann:
        await done(emitter.to(ROOM).send_text("first"))
        own_redis.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(AdapterUnavailable, match="Raise its maxmemory") as why:
            await done(emitter.to(ROOM).send_text("too much"))
        assert not why.value.uncertain
        own_redis.command("CONFIG", "SET", "maxmemory", "0")
        await done(emitter.to(ROOM).send_text("second"))
        assert [await ann.receive() for _ in "12"] == ["first", "second"]
        assert await texts(rooms) == ["first", "second"]
    await done(emitter.close())


async def test_what_is_repeated_when_the_memory_is_full_has_the_answer_that_was_lost(
    own_redis: RedisServer,
) -> None:
    room = RoomKey(b"/#tea", b"rooms#/#tea#")
    message = Message(room, 7, Retention(5, 60.0), b"hello")
    command = once.command(once.PLAIN.eval, b"rooms", message, "0" * 16, 60.0)
    first = own_redis.command(*command)
    own_redis.command("CONFIG", "SET", "maxmemory", "1")
    assert own_redis.command(*command) == first == [b"0" * 16 + b" 1"]
    other = once.command(once.PLAIN.eval, b"rooms", message._replace(tag=8), "0" * 16, 60.0)
    (refused,) = own_redis.command(*other)
    assert refused.startswith(b"-OOM")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_redis_that_was_emptied_keeps_what_comes_from_then_on(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url)
    async with worker(own_redis) as rooms:
        await done(emitter.to(ROOM).send_text("before"))
        await asyncio.to_thread(own_redis.restart)
        await eventually(lambda: own_redis.admin.exists("rooms:declared") == 1)
        await done(emitter.to(ROOM).send_text("after"))
        assert await texts(rooms) == ["after"]
    await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_workers_have_not_told_again_yet_is_remembered(
    kind: type[AnyEmitter], own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "READ_INTERVAL", 0.0)
    now = 1000.0
    monkeypatch.setattr(emitted, "monotonic", lambda: now)
    emitter = kind(own_redis.url)
    async with worker(own_redis):
        await done(emitter.to(ROOM).send_text("before"))
    own_redis.command("FLUSHALL")
    await done(emitter.to(ROOM).send_text("kept"))
    now += STALE + 1
    await done(emitter.to(ROOM).send_text("plain"))
    async with worker(own_redis) as rooms:
        assert await texts(rooms) == ["kept"]
    await done(emitter.close())
