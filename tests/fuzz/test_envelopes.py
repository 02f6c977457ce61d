"""Whatever is published on our channels: an envelope, or dropped and counted; never an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import MalformedEnvelope, OutboxPolicy, RoomManager
from fastapi_rooms.cluster.peers import MAX_PEERS
from fastapi_rooms.cluster.responder import MAX_RUNNING
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast, Heartbeat, HeartbeatKind, Request
from tests.fuzz.strategies import between_workers, envelopes
from tests.unit.support import OTHER_NODE, FakeAdapter, broadcast, channel_of


def is_envelope(data: bytes) -> bool:
    try:
        codec.decode(data)
    except MalformedEnvelope:
        return False
    return True


def is_broadcast(data: bytes) -> bool:
    return isinstance(codec.decode(data), Broadcast)


@given(envelopes)
def test_bytes_are_malformed_or_exactly_what_they_decode_to(data: bytes) -> None:
    if not is_envelope(data):
        return
    message = codec.decode(data)
    encoded = codec.encode(message)
    if isinstance(message, Request):  # whose JSON may have been written with spaces
        assert codec.encode(codec.decode(encoded)) == encoded
    else:
        assert encoded == data
    if isinstance(message, Broadcast) and not message.payload.binary:
        assert message.payload.text.encode() == message.payload.data


@given(st.lists(envelopes, max_size=10))
def test_a_worker_takes_whatever_comes_counts_it_and_hears_what_follows(
    received: list[bytes],
) -> None:
    asyncio.run(everything_is_taken(received))


async def everything_is_taken(received: list[bytes]) -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    async with rooms, Member(rooms, "lobby", "bar") as ann:
        assert adapter.receiver is not None
        for data in received:
            adapter.receiver.received(channel_of("lobby"), data)
        own = bytes.fromhex(rooms._runtime.run.node)
        malformed = [d for d in received if not is_envelope(d) and not codec.is_from(own, d)]
        others = [d for d in received if is_envelope(d) and not is_broadcast(d)]
        assert len(malformed) <= rooms.health.dropped <= len(malformed) + len(others)
        last = broadcast(1, Target(("lobby",)), "the last word", origin="00" * 7 + "fe")
        adapter.receiver.received(channel_of("lobby"), codec.encode(last))
        if not others:  # else somebody may have asked for her to be put out
            heard = await ann.receive_until("the last word")
            assert len(heard) <= len(received)
            assert len(rooms.rooms) == 3  # nobody came into any room by it
    assert not errors


@given(st.lists(between_workers, max_size=10), st.booleans())
def test_whatever_is_asked_in_a_workers_name_the_worker_lives(
    received: list[bytes], held_up: bool
) -> None:
    asyncio.run(the_worker_lives(received, held_up=held_up))


async def the_worker_lives(received: list[bytes], *, held_up: bool) -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, max_rooms_per_socket=5)
    rooms.on_server_side("event")(lambda *args: None)
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    with structured_log() as records:
        async with rooms, Member(rooms, "lobby", sid="ann"):
            assert adapter.receiver is not None
            if held_up:
                adapter.hold()
            for data in received:
                adapter.receiver.received(channel_of("lobby"), data)
            await asyncio.sleep(0)
            assert len(rooms.nodes()) <= len(received) + 1
            adapter.release()
            async with Member(rooms, "bar") as bob:  # and all is well
                await rooms.to("bar").send_text("the last word")
                await bob.receive_until("the last word")
    assert not errors
    assert not [record for record in records if record.levelno >= logging.ERROR]


@contextmanager
def structured_log() -> Iterator[list[logging.LogRecord]]:
    """What is logged meanwhile; pytest's own fixture lives too long for hypothesis."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign, assignment]
    logger = logging.getLogger("fastapi_rooms")
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)


async def test_a_flood_of_requests_and_of_invented_workers_is_bounded() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms:
        assert adapter.receiver is not None
        cluster = rooms._runtime.run.cluster
        before = len(asyncio.all_tasks())
        adapter.hold()
        for number in range(6000):
            origin = f"{number:016x}"
            beat = Heartbeat(origin, 1, HeartbeatKind.ALIVE, 3.0)
            ask = Request(origin, 2, "/", Target(), 1 + number, "count", {})
            for message in (beat, ask):
                adapter.receiver.received(channel_of("lobby"), codec.encode(message))
        assert len(asyncio.all_tasks()) - before <= 2 * MAX_RUNNING
        assert len(rooms.nodes()) <= MAX_PEERS + 1
        assert len(cluster._monitor._answered) <= MAX_PEERS
        adapter.release()


def test_what_is_dropped_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
    asyncio.run(everything_is_taken([b"x" * 1_000_000, b"\x01\x01\x00" + b"\xff" * 1_000_000]))
    dropped = [r for r in caplog.records if "malformed" in r.getMessage()]
    assert [record.levelno for record in dropped] == [logging.DEBUG] * 2
    assert all(len(record.getMessage()) < 500 for record in dropped)


@given(st.lists(st.one_of(envelopes, between_workers, st.binary(max_size=60)), max_size=10))
def test_whatever_is_forged_in_a_workers_name_all_that_it_says_is_heard(
    forged: list[bytes],
) -> None:
    asyncio.run(all_is_heard(forged))


async def all_is_heard(forged: list[bytes]) -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    honest = bytes.fromhex(OTHER_NODE)
    unbounded = OutboxPolicy(max_bytes=2**30)
    async with rooms, rooms.listen("tea", outbox=unbounded) as messages:
        assert adapter.receiver is not None
        told: list[str] = []
        taken = set()
        for number, data in enumerate(forged, 1):
            forgery = data[:3] + honest + data[11:]
            adapter.receiver.received(channel_of("tea"), forgery)
            taken.add(forgery[11:19])
            if number.to_bytes(8, "big") in taken:
                continue  # it may have cost this one message, and no other
            told.append(f"honest {number} {id(told)}")
            message = broadcast(number, Target(("tea",)), told[-1], origin=OTHER_NODE)
            adapter.receiver.received(channel_of("tea"), codec.encode(message))
        messages.close()
        heard = [message.text async for message in messages if not message.binary]
        assert [text for text in heard if text in set(told)] == told
