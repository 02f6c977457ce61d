"""What Redis knows of the rooms of real workers, and what they make of junk that comes from it."""

from __future__ import annotations

import random
from collections.abc import Iterator

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import heard
from tests.integration.several_workers.people import People
from tests.integration.workers import Workers


async def test_a_rooms_channel_has_as_many_subscribers_as_workers_with_a_member(
    workers: Workers, people: People, room: str, redis: RedisServer
) -> None:
    channel = f"rooms#/#{room}#"
    everybody = await people(2 * len(workers))
    counts = []
    for person in everybody:
        await person.socket.join(room)
        counts.append(redis.numsub(channel))
    everywhere = len(workers)
    assert counts == [*range(1, everywhere + 1), *[everywhere] * everywhere]

    for person in everybody[:everywhere]:
        await person.socket.leave(room)
    assert redis.numsub(channel) == everywhere  # a neighbour is still in
    await everybody[-1].socket.leave(room)
    await eventually(lambda: redis.numsub(channel) == everywhere - 1)
    for person in everybody:
        await person.close()
    await eventually(lambda: redis.numsub(channel) == 0)


async def test_redis_keeps_no_key(people: People, room: str, redis: RedisServer) -> None:
    redis.command("FLUSHALL")  # of rooms that remember, in other tests
    ann, bob = await people(2)
    await ann.socket.join(room)
    await bob.socket.join(room)
    await ann.rooms.to(room).send_text("hello")
    assert await bob.next() == "hello"
    assert redis.admin.keys("*") == []


async def test_a_new_socket_costs_redis_no_channel(
    workers: Workers, people: People, redis: RedisServer
) -> None:
    await people(len(workers))
    before = {*redis.channels()}
    await people(10)
    assert {*redis.channels()} <= before  # an earlier test's room may have gone meanwhile


async def test_junk_on_our_channels_changes_nothing(
    workers: Workers, people: People, room: str, redis: RedisServer
) -> None:
    everybody = await people(2 * len(workers))
    ann = everybody[0]
    for person in everybody:
        await person.socket.join(room)
    channels = [c for c in redis.channels() if b"room-" not in c]
    channels.append(f"rooms#/#{room}#".encode())
    with redis.admin.pubsub() as spy:  # type: ignore[no-untyped-call]
        spy.subscribe(f"rooms#/#{room}#")
        spy.get_message(timeout=5)
        await ann.rooms.to(room).send_text("real")
        genuine: bytes = spy.get_message(timeout=5)["data"]
    assert await heard(ann, *everybody) == [["real"]] * len(everybody)
    dropped = [(await workers.state(worker))["dropped"] for worker in range(len(workers))]

    for channel in channels:
        for junk in junk_like(genuine, b"real"):
            redis.admin.publish(channel, junk)
    await ann.rooms.to(room).send_text("still here")
    assert await heard(ann, *everybody) == [["still here"]] * len(everybody)
    for worker, before in enumerate(dropped):
        assert (await workers.state(worker))["dropped"] > before


def junk_like(genuine: bytes, payload: bytes) -> Iterator[bytes]:
    """Bytes that are no message: noise, and a message that was cut, changed, or sent already."""
    noise = random.Random(2)
    yield b""
    yield b'{"type": "message", "room": "tea"}'
    yield b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94."  # a pickle
    for size in (1, 23, 24, 25, 100, 10_000):
        yield b"\0" + noise.randbytes(size)
        yield b"\xff" * size
    yield from (genuine[:length] for length in range(len(genuine) - len(payload)))
    yield b"\x02" + genuine[1:]  # a version to come
    yield genuine[:1] + b"\x63" + genuine[2:]  # a kind to come
    yield genuine[:2] + b"\xf0" + genuine[3:]  # flags to come
    yield genuine[: -len(payload)] + b"\xff\xfe"  # text that is none
    yield genuine
