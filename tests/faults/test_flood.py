"""Somebody who may write to Redis, and should not, floods every channel of ours."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from fastapi_rooms import Gap, MalformedEnvelope
from fastapi_rooms.adapters.redis.pubsub.failover_gaps import MIN_INTERVAL
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, RedisServer, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast
from tests.faults.support import manager, ready, talking

SAMPLE = codec.encode(
    Broadcast("0123456789abcdef", 1, "/", Target(("lobby",)), Payload.of_text("hello"))
)


def junk(chance: random.Random) -> Iterator[bytes]:
    """Everything but envelopes: noise, what begins like one, what is cut off or damaged."""
    while True:
        kind = chance.randrange(5)
        if kind == 0:
            data = chance.randbytes(chance.randrange(200))
        elif kind == 1:
            data = SAMPLE[:2] + chance.randbytes(chance.randrange(100))
        elif kind == 2:
            data = SAMPLE[: chance.randrange(len(SAMPLE))]
        elif kind == 3:
            damaged = bytearray(SAMPLE)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            data = bytes(damaged)
        else:
            data = SAMPLE[:19] + b"\xff" * chance.randrange(10_000)
        try:
            codec.decode(data)
        except MalformedEnvelope:
            yield data


@asynccontextmanager
async def flooding(redis: RedisServer) -> AsyncIterator[list[int]]:
    """Publish junk without a pause; the list has how many workers got each, once it is over."""
    delivered: list[int] = []
    chance = random.Random(7)

    over = asyncio.Event()

    async def flood() -> None:
        async with Redis.from_url(redis.url) as client:
            for data in junk(chance):
                if over.is_set():
                    return
                pipeline = client.pipeline(transaction=False)
                for channel in redis.channels():
                    if b"#probe." not in channel:
                        pipeline.execute_command("PUBLISH", channel, data)
                delivered.extend(await pipeline.execute())

    task = asyncio.create_task(flood())
    try:
        await eventually(lambda: len(delivered) > 500 or task.done())
        yield delivered
    finally:
        over.set()
        await task


async def test_a_flood_of_junk_is_dropped_and_counted_and_nothing_else_is_lost(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    near, far = manager(own_redis), manager(own_redis)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        async with (
            talking(near, "lobby") as one,
            talking(far, "lobby") as other,
            flooding(own_redis) as delivered,
        ):
            assert near.health.ready
            assert far.health.ready
            await here.socket.join("another room")  # it answers in the midst of it
            before = near.health.dropped, far.health.dropped
            await asyncio.gather(one.goes_on(), other.goes_on())
            await eventually(
                lambda: near.health.dropped > before[0] and far.health.dropped > before[1]
            )
        assert one.refused == other.refused == []
        assert near.health.ready
        assert far.health.ready
        assert (near.health.reconnects, far.health.reconnects) == (0, 0)
        heard = []
        for member, sender in ((here, far), (there, near)):
            await sender.to("lobby").send_text("the end")
            heard.append([str(text) for text in await member.receive_until("the end")])
        for texts in heard:  # both speak, each in order: nothing lost, nothing twice, nothing more
            assert len(texts) == len(one.accepted) + len(other.accepted)
            assert sorted(texts) == sorted(one.accepted + other.accepted)
        # What was cut short with the flood is counted here, if Redis got it at all, and not above.
        assert near.health.dropped + far.health.dropped >= sum(delivered)
    assert not gaps
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


async def test_forged_envelopes_of_a_worker_do_not_silence_it(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        await far.to("lobby").send_text("first")
        assert await here.receive() == await there.receive() == "first"
        origin = far._runtime.run.node
        for sequence in (2**32, 2**64 - 1):
            forged = Broadcast(
                origin, sequence, "/", Target(("lobby",)), Payload.of_text(f"forged {sequence}")
            )
            own_redis.command("PUBLISH", "rooms#/#lobby#", codec.encode(forged))
            assert await here.receive() == f"forged {sequence}"
        await far.to("lobby").send_text("second")
        assert await here.receive() == "second"
        await ready(near, far)


async def test_forged_failovers_are_few_gaps_and_nothing_is_missed(own_redis: RedisServer) -> None:
    near = manager(own_redis)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, Member(near, "lobby") as here:
        async with Redis.from_url(own_redis.url) as client:
            for _ in range(20):
                pipeline = client.pipeline(transaction=False)
                for _ in range(100):
                    pipeline.execute_command("PUBLISH", "rooms#moved#", b"0.000001 0")
                await pipeline.execute()
        await near.to("lobby").send_text("still here")
        assert await here.receive() == "still here"
        await eventually(lambda: gaps)
        assert near.health.ready
        assert near.health.reconnects == 0
    assert len(gaps) <= 1 + (gaps[-1].until - gaps[0].since) // MIN_INTERVAL
    assert {gap.rooms for gap in gaps} == {("lobby",)}


async def test_a_room_that_a_message_names_again_and_again_is_no_work(
    own_redis: RedisServer,
) -> None:
    near = manager(own_redis)
    async with near, Member(near, "lobby") as here:
        names = ("lobby", "other")
        sample = Broadcast("0123456789abcdef", 1, "/", Target(names), Payload.of_text("forged"))
        named = b"\x05lobby\x05other"
        before, _, after = codec.encode(sample).partition(named)
        forged = before[:20] + b"\xff\xff" + before[22:] + b"\x05lobby" * 0xFFFF + after
        own_redis.command("PUBLISH", "rooms#/#", forged)
        await eventually(lambda: near.health.dropped == 1)
        await near.to("lobby").send_text("hello")
        assert await here.receive() == "hello"
