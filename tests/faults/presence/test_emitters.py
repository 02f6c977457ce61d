"""Emitters that ask who is present, and a Redis that is gone, mute, or refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter
from fastapi_rooms.testing import RedisServer
from tests.emitters import AnyEmitter, answered, declare_presence, done

KINDS = [Emitter, AsyncEmitter]


@pytest.fixture(params=KINDS)
async def emitter(
    request: pytest.FixtureRequest, own_redis: RedisServer
) -> AsyncIterator[AnyEmitter]:
    declare_presence(own_redis)
    emitter: AnyEmitter = request.param(own_redis.url, timeout=5)
    yield emitter
    await done(emitter.close())


async def test_a_redis_that_is_gone_is_said_at_once_and_mended_by_itself(
    emitter: AnyEmitter, own_redis: RedisServer
) -> None:
    presence = emitter.presence
    assert await answered(presence.count("tea")) == 0
    own_redis.stop()
    for ask in (
        lambda: presence.users("tea"),
        lambda: presence.count("tea"),
        lambda: presence.is_present("ann", "tea"),
        lambda: presence.rooms("ann"),
    ):
        with pytest.raises(AdapterUnavailable, match=r"did not say who is present: .*connect"):
            await answered(ask())
    own_redis.start()
    assert await answered(presence.count("tea")) == 0, "what was declared is known for a while"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_redis_that_is_mute_is_not_waited_for_longer_than_the_timeout(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url, timeout=0.1)
    own_redis.freeze()
    with pytest.raises(AdapterUnavailable, match="did not say who is present"):
        await answered(emitter.presence.users("tea"))
    own_redis.thaw()
    await done(emitter.close())


async def test_a_replica_is_not_asked(emitter: AnyEmitter, own_redis: RedisServer) -> None:
    own_redis.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(AdapterUnavailable, match="it is a replica"):
        await answered(emitter.presence.users("tea"))
    own_redis.command("REPLICAOF", "NO", "ONE")
    await answered(emitter.presence.users("tea"))


async def test_keys_of_another_application_are_said_to_be_in_the_way(
    emitter: AnyEmitter, own_redis: RedisServer
) -> None:
    own_redis.command("SET", "rooms:presence:{/#tea}", "")
    with pytest.raises(AdapterUnavailable, match=r"refused to say .* a prefix of its own"):
        await answered(emitter.presence.users("tea"))


@pytest.mark.parametrize("kind", KINDS)
async def test_who_may_not_ask_is_told_what_is_missing(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    own_redis.command("ACL", "SETUSER", "eve", "on", ">x", "allchannels", "+publish")
    emitter = kind(own_redis.url.replace("//", "//eve:x@"))
    await done(emitter.to("tea").send_text("hello"))
    declare_presence(own_redis)
    rules = r"ACL SETUSER <user> ~rooms:\* \+hgetall \+hget \+hexists \+hscan \+sscan"
    with pytest.raises(AdapterUnavailable, match=rules):
        await answered(emitter.presence.users("tea"))
    commands = ("+hgetall", "+hget", "+hexists", "+hscan", "+sscan")
    own_redis.command("ACL", "SETUSER", "eve", "~rooms:*", *commands)
    assert (await answered(emitter.presence.users("tea"))).users == ()
    assert await answered(emitter.presence.rooms("ann")) == set()
    await done(emitter.close())
