"""Envelopes as bytes: what was sent is what arrives, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import MalformedEnvelope, UsageError
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.codec import VERSION, encode, is_from
from fastapi_rooms.wire.envelope import (
    Broadcast,
    Envelope,
    Heartbeat,
    HeartbeatKind,
    Reply,
    Request,
)
from tests.unit.strategies import any_text, namespaces, node_ids, room_names


def decode(data: bytes) -> Broadcast:
    """Decode what has to be a broadcast."""
    message = codec.decode(data)
    assert isinstance(message, Broadcast)
    return message


payloads = st.one_of(any_text.map(Payload.of_text), st.binary().map(Payload.of_bytes))
name_lists = st.lists(room_names, max_size=5, unique=True).map(tuple)
targets = st.builds(Target, st.one_of(st.none(), name_lists), name_lists)
sequences = st.integers(0, 2**64 - 1)
broadcasts = st.builds(Broadcast, node_ids, sequences, namespaces, targets, payloads, st.booleans())
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
numbers = st.integers(0, 2**64 - 1)
arguments = st.dictionaries(any_text, json, max_size=3)
requests = st.builds(
    Request, node_ids, sequences, namespaces, targets, numbers, any_text, arguments
)
replies = st.builds(
    Reply,
    node_ids,
    sequences,
    numbers,
    st.integers(0, 2**32 - 1),
    last=st.booleans(),
    refused=st.booleans(),
    data=st.binary(),
    unsupported=st.booleans(),
).filter(lambda reply: reply.refused or not reply.unsupported)
intervals = st.integers(1, 2**32 - 1).map(lambda milliseconds: milliseconds / 1000)
heartbeats = st.builds(Heartbeat, node_ids, sequences, st.sampled_from(HeartbeatKind), intervals)
messages = st.one_of(broadcasts, requests, replies, heartbeats)

EXAMPLE = Broadcast(
    origin="0123456789abcdef",
    sequence=258,
    namespace="/chat",
    target=Target(("lobby", "café"), ("muted",)),
    payload=Payload.of_text("hé!"),
)
GOLDEN = (
    b"\x01\x01\x00"  # version, kind, flags
    b"\x01\x23\x45\x67\x89\xab\xcd\xef"  # origin
    b"\x00\x00\x00\x00\x00\x00\x01\x02"  # sequence
    b"\x05\x00\x02\x00\x01"  # the length of the namespace, two rooms, one left out
    b"/chat"
    b"\x05lobby\x05caf\xc3\xa9"
    b"\x05muted"
    b"h\xc3\xa9!"
)


def _parts(broadcast: Broadcast) -> tuple[object, ...]:
    """Everything a broadcast says; payloads have no equality of their own."""
    origin, sequence, namespace, target, payload, volatile = broadcast
    return origin, sequence, namespace, target, payload.data, payload.binary, volatile


@given(broadcasts)
def test_what_is_encoded_decodes_to_the_same(broadcast: Broadcast) -> None:
    assert _parts(decode(encode(broadcast))) == _parts(broadcast)


@given(st.one_of(requests, replies, heartbeats))
def test_what_workers_say_to_each_other_decodes_to_the_same(message: Envelope) -> None:
    assert codec.decode(encode(message)) == message


@pytest.mark.parametrize(
    ("message", "kind", "flags", "rest"),
    [
        pytest.param(
            Request("01" * 8, 2, "/a", Target(("b",)), 3, "count", {"x": [1]}),
            2,
            0,
            b"\x02\x00\x01\x00\x00/a\x01b" + bytes(7) + b"\x03" + b'["count",{"x":[1]}]',
            id="a request",
        ),
        pytest.param(
            Request("01" * 8, 2, "/", Target(), 0, "count", {}),
            2,
            4,
            b"\x01\x00\x00\x00\x00/" + bytes(8) + b'["count",{}]',
            id="a request about everyone",
        ),
        pytest.param(
            Reply("01" * 8, 2, 3, 4, last=True, refused=False, data=b"[]"),
            3,
            1,
            bytes(5) + bytes(7) + b"\x03" + bytes(3) + b"\x04" + b"[]",
            id="the last piece of a reply",
        ),
        pytest.param(
            Reply("01" * 8, 2, 3, 4, last=False, refused=True, data=b"no"),
            3,
            2,
            bytes(5) + bytes(7) + b"\x03" + bytes(3) + b"\x04" + b"no",
            id="a piece of a refusal",
        ),
        pytest.param(
            Reply("01" * 8, 2, 3, 0, last=True, refused=True, data=b"no", unsupported=True),
            3,
            7,
            bytes(5) + bytes(7) + b"\x03" + bytes(4) + b"no",
            id="a refusal of a verb that is not known",
        ),
        pytest.param(
            Heartbeat("01" * 8, 2, HeartbeatKind.BYE, 2.5),
            4,
            0,
            bytes(5) + b"\x02\x00\x00\x09\xc4",
            id="a heartbeat",
        ),
    ],
)
def test_the_bytes_of_what_workers_say_to_each_other_are_these(
    message: Envelope, kind: int, flags: int, rest: bytes
) -> None:
    header = bytes([1, kind, flags]) + b"\x01" * 8 + bytes(7) + b"\x02"
    assert encode(message) == header + rest


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x01\x02\x01" + bytes(21), "flags", id="a binary request"),
        pytest.param(b"\x01\x04\x04" + bytes(21), "flags", id="a heartbeat for everyone"),
        pytest.param(
            b"\x01\x02\x00" + bytes(21) + bytes(7), "buffer of at least", id="no whole request id"
        ),
        pytest.param(
            b"\x01\x02\x00" + bytes(21) + bytes(8) + b"{",
            "property name",
            id="no JSON",
        ),
        pytest.param(b"\x01\x02\x00" + bytes(21) + bytes(8) + b"{}", "a verb", id="no verb"),
        pytest.param(b"\x01\x02\x00" + bytes(21) + bytes(8) + b'["v",[]]', "a verb", id="a list"),
        pytest.param(
            b"\x01\x03\x00" + bytes(16) + b"\x01" + bytes(4) + b"/" + bytes(12),
            "no namespace",
            id="a reply with a namespace",
        ),
        pytest.param(
            b"\x01\x03\x00" + bytes(21) + bytes(11), "buffer of at least", id="no whole piece"
        ),
        pytest.param(
            b"\x01\x03\x04" + bytes(21) + bytes(12),
            "refused",
            id="unsupported, and not refused",
        ),
        pytest.param(
            b"\x01\x04\x00" + bytes(21) + b"\x00\x00\x00\x00",
            "requires a buffer",
            id="no whole heartbeat",
        ),
        pytest.param(b"\x01\x04\x00" + bytes(21) + bytes(5), "interval", id="no interval"),
        pytest.param(
            b"\x01\x04\x00" + bytes(21) + b"\x04\0\0\0\x01",
            "HeartbeatKind",
            id="no such kind of heartbeat",
        ),
        pytest.param(
            b"\x01\x04\x00" + bytes(21) + bytes(4) + b"\x01x",
            "requires a buffer",
            id="a long heartbeat",
        ),
    ],
)
def test_what_no_worker_says_is_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedEnvelope, match=reason):
        codec.decode(data)


def test_the_bytes_of_version_1_are_these() -> None:
    assert encode(EXAMPLE) == GOLDEN
    assert _parts(decode(GOLDEN)) == _parts(EXAMPLE)


@pytest.mark.parametrize(
    ("broadcast", "flags"),
    [
        pytest.param(EXAMPLE, 0, id="text"),
        pytest.param(EXAMPLE._replace(payload=Payload.of_bytes(b"")), 1, id="binary"),
        pytest.param(EXAMPLE._replace(volatile=True), 2, id="volatile"),
        pytest.param(EXAMPLE._replace(target=Target()), 4, id="everyone"),
        pytest.param(
            EXAMPLE._replace(payload=Payload.of_bytes(b""), volatile=True, target=Target()),
            7,
            id="all of them",
        ),
    ],
)
def test_the_flags_of_version_1_are_these(broadcast: Broadcast, flags: int) -> None:
    assert encode(broadcast)[2] == flags
    assert _parts(decode(encode(broadcast))) == _parts(broadcast)


def test_nobody_and_everyone_are_told_apart() -> None:
    for target in (Target(()), Target(None)):
        assert decode(encode(EXAMPLE._replace(target=target))).target == target


def test_every_truncation_is_malformed_or_a_shorter_payload() -> None:
    payload_size = len(EXAMPLE.payload.data)
    for size in range(len(GOLDEN)):
        cut = GOLDEN[:size]
        missing = len(GOLDEN) - size
        if missing <= payload_size and EXAMPLE.payload.data[: payload_size - missing] != b"h\xc3":
            assert decode(cut).target == EXAMPLE.target
        else:
            with pytest.raises(MalformedEnvelope):
                decode(cut)


def _decodes_to_nothing_else(data: bytes) -> None:
    """Either it is refused, or it is exactly what encoding its meaning gives."""
    try:
        message = codec.decode(data)
    except MalformedEnvelope:
        return
    if isinstance(message, Request):  # the same JSON may be written in several ways
        assert codec.decode(encode(message)) == message
    else:
        assert encode(message) == data
    if isinstance(message, Broadcast) and not message.payload.binary:
        message.payload.data.decode()


@given(st.binary(max_size=200))
@example(b"")
def test_junk_is_malformed_or_exactly_what_it_says(data: bytes) -> None:
    _decodes_to_nothing_else(data)


@given(st.integers(1, 4), st.binary(max_size=80))
def test_junk_after_a_believable_beginning_is_malformed_or_exactly_what_it_says(
    kind: int, data: bytes
) -> None:
    _decodes_to_nothing_else(bytes([1, kind]) + data)


@given(messages, st.data())
def test_a_mutated_envelope_is_malformed_or_exactly_what_it_says(
    message: Envelope, data: st.DataObject
) -> None:
    mutated = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not mutated:
            break
    _decodes_to_nothing_else(bytes(mutated))


def test_every_other_version_and_kind_is_malformed() -> None:
    for at, what, known in ((0, "version", 1), (1, "kind", 4)):
        for value in (0, *range(known + 1, 256)):
            with pytest.raises(MalformedEnvelope, match=f"{what} {value} "):
                decode(GOLDEN[:at] + bytes([value]) + GOLDEN[at + 1 :])


def _header(flags: int = 0, *, namespace: int = 1, rooms: int = 0, except_: int = 0) -> bytes:
    counts = bytes([namespace]) + rooms.to_bytes(2, "big") + except_.to_bytes(2, "big")
    return bytes([VERSION, 1, flags]) + bytes(16) + counts


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(GOLDEN[:23], "shorter than a header", id="no whole header"),
        pytest.param(b"\x02" + GOLDEN[1:], "version 2", id="the next version"),
        pytest.param(b"\x01\x05" + GOLDEN[2:], "kind 5", id="an unknown kind"),
        pytest.param(_header(8) + b"/", "flags", id="an unknown flag"),
        pytest.param(_header(4, rooms=1) + b"/\x01a", "flags", id="everyone, and a room"),
        pytest.param(_header(namespace=9) + b"/", "namespace is cut off", id="namespace cut off"),
        pytest.param(_header(namespace=2) + b"/\xff", "decode", id="namespace not UTF-8"),
        pytest.param(_header(rooms=1) + b"/", "out of range", id="no room where one should be"),
        pytest.param(_header(rooms=1) + b"/\x05ab", "cut off or empty", id="a room cut off"),
        pytest.param(_header(rooms=1) + b"/\x00", "cut off or empty", id="an empty room"),
        pytest.param(_header(except_=1) + b"/\x01\xff", "decode", id="a room not UTF-8"),
        pytest.param(_header(rooms=2) + b"/\x01a\x01a", "twice", id="a room named twice"),
        pytest.param(_header(except_=2) + b"/\x01a\x01a", "twice", id="one excluded twice"),
        pytest.param(_header() + b"/\xff", "decode", id="text not UTF-8"),
        pytest.param(_header() + b"/\xed\xa0\x80", "decode", id="text with a lone surrogate"),
    ],
)
def test_what_is_malformed_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedEnvelope, match=reason):
        decode(data)


@given(broadcasts)
def test_an_envelope_is_known_by_its_origin_without_being_decoded(broadcast: Broadcast) -> None:
    encoded = encode(broadcast)
    assert is_from(bytes.fromhex(broadcast.origin), encoded)
    assert not is_from(bytes.fromhex(broadcast.origin)[::-1] + b"x", encoded)
    assert not is_from(bytes(b ^ 1 for b in bytes.fromhex(broadcast.origin)), encoded)


@given(st.binary(max_size=30))
def test_junk_is_from_nobody_unless_it_names_an_origin(junk: bytes) -> None:
    origin = bytes.fromhex(EXAMPLE.origin)
    assert is_from(origin, junk) == (junk[3:11] == origin)


def test_binary_payloads_may_hold_every_byte() -> None:
    every = bytes(range(256))
    decoded = decode(encode(EXAMPLE._replace(payload=Payload.of_bytes(every))))
    assert decoded.payload.data == every


def test_more_names_than_the_header_can_count_are_refused() -> None:
    most = tuple(map(str, range(0xFFFF)))
    assert decode(encode(EXAMPLE._replace(target=Target(most, most)))).target == Target(most, most)
    for target in (Target((*most, "b")), Target(None, (*most, "b"))):
        with pytest.raises(UsageError, match="65535"):
            encode(EXAMPLE._replace(target=target))
