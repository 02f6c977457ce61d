"""Whatever is published on our channels: an envelope, or dropped and counted; never an error."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms import MalformedEnvelope, RoomManager, codec
from fastapi_rooms.envelope import Broadcast, Request, Target
from fastapi_rooms.testing import Member
from tests.fuzz.strategies import envelopes
from tests.unit.support import FakeAdapter, broadcast, channel_of


def is_envelope(data: bytes) -> bool:
    try:
        codec.decode(data)
    except MalformedEnvelope:
        return False
    return True


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
        own = bytes.fromhex(rooms._runtime.node)
        malformed = [d for d in received if not is_envelope(d) and not codec.is_from(own, d)]
        assert rooms.health.dropped == len(malformed)
        last = broadcast(1, Target(("lobby",)), "the last word", origin="00" * 7 + "fe")
        adapter.receiver.received(channel_of("lobby"), codec.encode(last))
        heard = await ann.receive_until("the last word")
        assert len(heard) <= len(received)
        assert len(rooms.rooms) == 3  # nobody came into any room by it
    assert not errors


def test_what_is_dropped_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
    asyncio.run(everything_is_taken([b"x" * 1_000_000, b"\x01\x01\x00" + b"\xff" * 1_000_000]))
    dropped = [r for r in caplog.records if "malformed" in r.getMessage()]
    assert [record.levelno for record in dropped] == [logging.DEBUG] * 2
    assert all(len(record.getMessage()) < 500 for record in dropped)
