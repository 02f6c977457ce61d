"""Emitters and a Redis that is gone, mute, cut off, or refuses."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from fastapi_rooms import AdapterUnavailable, AsyncEmitter, Emitter, RedisAdapter
from fastapi_rooms.adapters.redis.emit_clients import senders
from fastapi_rooms.testing import Cluster, Direction, Proxy, RedisServer, eventually
from tests.emitters import AnyEmitter, done

KINDS = [Emitter, AsyncEmitter]


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_there_is_said_at_once_and_mended_by_itself(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url)
    await done(emitter.send_text("hello"))
    own_redis.stop()
    with pytest.raises(AdapterUnavailable, match=r"Redis did not accept it: .*connect"):
        await done(emitter.send_text("hello"))
    await done(emitter.volatile.send_text("hello"))
    own_redis.start()
    await done(emitter.send_text("hello"))
    assert own_redis.calls("publish") == 1
    await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_redis_that_is_mute_is_not_waited_for_longer_than_the_timeout(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    emitter = kind(own_redis.url, timeout=0.1)
    own_redis.freeze()
    with pytest.raises(AdapterUnavailable):
        await done(emitter.send_text("hello"))
    own_redis.thaw()

    async def accepted() -> bool:
        with suppress(AdapterUnavailable):  # a busy machine may take longer than that
            await done(emitter.send_text("hello"))
            return True
        return False

    await eventually(accepted)
    await done(emitter.close())


async def test_a_thread_does_not_wait_for_its_turn_for_ever(own_redis: RedisServer) -> None:
    patient = Emitter(own_redis.url, timeout=60)
    patient._sender._timeout = 0.05  # seconds to wait for the turn
    own_redis.freeze()
    other = threading.Thread(target=patient.send_text, args=("hello",))
    other.start()
    await eventually(patient._sender._turn.locked)
    with pytest.raises(AdapterUnavailable, match=r"in 0.05 s"):
        patient.send_text("too late")
    own_redis.thaw()
    other.join()
    patient.close()


def in_the_background(emitter: AnyEmitter, text: str) -> asyncio.Future[None]:
    """Send to the room; the wire is served by this event loop, so it must not be blocked."""
    if isinstance(emitter, AsyncEmitter):
        return asyncio.ensure_future(emitter.to("tea").send_text(text))
    return asyncio.ensure_future(asyncio.to_thread(emitter.to("tea").send_text, text))


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_sent_again_because_no_answer_came_arrives_once(
    kind: type[AnyEmitter], own_redis: RedisServer, wire: Proxy
) -> None:
    async with Cluster(1, adapter=lambda: RedisAdapter(own_redis.url)) as cluster:
        member = await cluster.member(cluster[0], "tea")
        emitter = kind(own_redis.url_of(wire.host, wire.port))
        await in_the_background(emitter, "first")
        wire.stall(Direction.TO_CLIENT)
        sending = in_the_background(emitter, "second")
        assert [await member.receive() for _ in "12"] == ["first", "second"]
        before = own_redis.calls("publish")
        wire.cut()
        wire.resume()
        await sending
        assert own_redis.calls("publish") > before, "it was sent again"
        await in_the_background(emitter, "third")
        assert await member.receive() == "third"
        await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_redis_refuses_is_said_in_its_words(
    kind: type[AnyEmitter], own_redis: RedisServer
) -> None:
    own_redis.command("ACL", "SETUSER", "eve", "on", "nopass", "resetchannels", "+@all")
    emitter = kind(own_redis.url.replace("redis://", "redis://eve:x@"))
    with pytest.raises(AdapterUnavailable, match=r"Redis refused to publish: .*channel"):
        await done(emitter.send_text("hello"))
    await done(emitter.close())
    stranger = kind(own_redis.url.replace("redis://", "redis://nobody:x@"))
    with pytest.raises(AdapterUnavailable, match=r"invalid username-password"):
        await done(stranger.send_text("hello"))
    await done(stranger.close())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hello", ["+hello", "-hello"])
async def test_a_replica_is_refused_as_its_master_would_never_hear_of_it(
    kind: type[AnyEmitter], hello: str, own_redis: RedisServer
) -> None:
    own_redis.command("ACL", "SETUSER", "default", hello)
    own_redis.command("REPLICAOF", "127.0.0.1", "1")
    emitter = kind(f"{own_redis.url}?protocol=2")
    with pytest.raises(AdapterUnavailable, match="it is a replica"):
        await done(emitter.send_text("hello"))
    own_redis.command("REPLICAOF", "NO", "ONE")
    await done(emitter.send_text("hello"))
    await done(emitter.close())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_master_that_becomes_a_replica_is_noticed_in_time(
    kind: type[AnyEmitter], own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(senders, "monotonic", lambda: now)
    emitter = kind(own_redis.url)
    await done(emitter.send_text("hello"))
    own_redis.command("REPLICAOF", "127.0.0.1", "1")
    now = 9.9
    await done(emitter.send_text("nobody can tell"))
    now = 10.0
    with pytest.raises(AdapterUnavailable, match="it is a replica"):
        await done(emitter.send_text("hello"))
    own_redis.command("REPLICAOF", "NO", "ONE")
    await done(emitter.send_text("hello"))
    await done(emitter.close())
