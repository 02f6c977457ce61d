"""AMQP as bytes: what is written by hand is what pamqp writes, and nothing that comes does harm."""

from __future__ import annotations

from contextlib import suppress

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, header, heartbeat

from fastapi_rooms.adapters.rabbitmq.links import frames
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    FRAME_MAX,
    Confirmed,
    Delivered,
    Event,
    FrameReader,
    Method,
    ProtocolError,
    Returned,
    ack,
    method,
    name_of,
    publish,
    start_of_body,
)

PART = FRAME_MAX - 8


def content(start: pamqp.frame.FrameTypes, data: bytes, channel: int = 2) -> bytes:
    parts = [start, header.ContentHeader(body_size=len(data))]
    parts += [body.ContentBody(data[at : at + PART]) for at in range(0, len(data), PART)]
    return b"".join(pamqp.frame.marshal(part, channel) for part in parts)


def delivered(data: bytes, tag: int = 7) -> bytes:
    return content(commands.Basic.Deliver("ctag", tag, False, "rooms", "key"), data)


def returned(data: bytes) -> bytes:
    return content(commands.Basic.Return(312, "NO_ROUTE", "rooms", "key"), data)


def events(data: bytes, step: int = 1 << 30) -> list[Event]:
    reader, found = FrameReader(), []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        found += [event for event in reader.events() if event is not None]
    return found


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
def test_a_message_is_written_as_pamqp_writes_it(size: int) -> None:
    data = bytes(size)
    written = publish(1, b"rooms", "Grüße".encode(), data)
    method = commands.Basic.Publish(0, "rooms", "Grüße", mandatory=True)
    assert written == content(method, data, channel=1)
    if 0 < size <= PART:
        assert start_of_body(written, b"rooms") == len(written) - size - 1


def test_an_acknowledgement_is_written_as_pamqp_writes_it() -> None:
    assert ack(2, 2**40) == pamqp.frame.marshal(commands.Basic.Ack(2**40, multiple=True), 2)
    assert pamqp.frame.marshal(heartbeat.Heartbeat(), 0) == frames.BEAT
    assert header.ProtocolHeader().marshal() == frames.PROTOCOL


@pytest.mark.parametrize("step", [1, 7, 1 << 30])
def test_what_comes_is_read_however_it_is_cut(step: int) -> None:
    data = b"".join(
        (
            delivered(b"hello", tag=5),
            frames.BEAT,
            returned(b"back"),
            delivered(b""),
            pamqp.frame.marshal(commands.Basic.Ack(3, multiple=True), 1),
            pamqp.frame.marshal(commands.Basic.Nack(4), 1),
            pamqp.frame.marshal(commands.Queue.BindOk(), 1),
        )
    )
    found = events(data, step)
    assert found[:5] == [
        Delivered(2, 5, b"hello"),
        Returned(2, b"back"),
        Delivered(2, 7, b""),
        Confirmed(1, 3, multiple=True, accepted=True),
        Confirmed(1, 4, multiple=False, accepted=False),
    ]
    last = found[5]
    assert isinstance(last, Method)
    assert isinstance(last.frame, commands.Queue.BindOk)


def test_a_long_message_is_put_together() -> None:
    data = bytes(range(256)) * 2000
    assert events(delivered(data), 4096) == [Delivered(2, 7, data)]


def test_a_message_that_is_too_long_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_CONTENT", 1000)
    found = events(delivered(bytes(1001), tag=1) + delivered(bytes(1000), tag=2))
    assert found == [Delivered(2, 1, None), Delivered(2, 2, bytes(1000))]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "management plugin"),
        (b"\x15\x03\x03\x00\x02\x02\x46\x00\x00", "amqps://"),
        (b"AMQP\x00\x01\x00\x00", "another version"),
        (b"\x01\x00\x00\xff\xff\xff\xff\x00", "a frame of"),
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00", "without its end"),
        (b"\x08\x00\x04\x00\x00\x00\x00\xce", "channel 4"),
        (b"\x02\x00\x01\x00\x00\x00\x00\xce", "belongs to nothing"),
        (delivered(b"x")[:-9] + b"\x01\x00\x02\x00\x00\x00\x00\xce", "in the midst"),
        (b"\x01\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\xce", "cannot be read"),
        (delivered(b"")[:-22] + b"\x02\x00\x02\x00\x00\x00\x02\x00\x3c\xce", "too short"),
        (delivered(b"")[:-22] + b"\x03\x00\x02\x00\x00\x00\x01x\xce", "out of its turn"),
        (
            b"\x01\x00\x02\x00\x00\x00\x05\x00\x3c\x00\x3c\xff\xce" + delivered(b"")[-22:],
            "without its number",
        ),
    ],
)
def test_what_is_not_amqp_is_said_to_be_so(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        events(data)


@given(st.binary(max_size=300), st.integers(1, 64))
def test_any_bytes_are_read_or_refused(data: bytes, step: int) -> None:
    with suppress(ProtocolError):
        events(data, step)


@given(st.data())
def test_frames_with_any_payload_are_read_or_refused(data: st.DataObject) -> None:
    whole = b""
    for _ in range(data.draw(st.integers(1, 4))):
        payload = data.draw(st.binary(max_size=40) | st.sampled_from(STARTS).flatmap(extended))
        kind = data.draw(st.sampled_from([1, 2, 3, 8, 9]))
        whole += bytes((kind, 0, 2)) + len(payload).to_bytes(4, "big") + payload + b"\xce"
    with suppress(ProtocolError):
        events(whole)


STARTS = [b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x32", b"\x00\x3c\x00\x50", b"\x00\x0a\x00\x0a"]


def extended(start: bytes) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=30).map(lambda rest: start + rest)


def test_a_message_in_parts_that_do_not_add_up_is_none() -> None:
    begun = content(commands.Basic.Deliver("ctag", 7, False, "rooms", "key"), b"")[:-22] + (
        pamqp.frame.marshal(header.ContentHeader(body_size=2), 2)
    )
    for part in (b"", b"abc"):
        with pytest.raises(ProtocolError, match="message"):
            events(begun + pamqp.frame.marshal(body.ContentBody(part), 2))


def test_an_error_names_an_event_and_does_not_quote_it() -> None:
    (message, cancel) = events(delivered(b"secret") + method(commands.Basic.Cancel("tag"), 2))
    assert name_of(message) == "Delivered"
    assert name_of(cancel) == "Basic.Cancel"


def test_tables_within_tables_are_no_method() -> None:
    table = b""
    for _ in range(2000):
        table = b"\x01aF" + len(table).to_bytes(4, "big") + table
    start = b"\x00\x0a\x00\x0a\x00\x09" + len(table).to_bytes(4, "big") + table + bytes(8)
    frame = b"\x01\x00\x00" + len(start).to_bytes(4, "big") + start + b"\xce"
    with pytest.raises(ProtocolError, match="RecursionError"):
        events(frame)
