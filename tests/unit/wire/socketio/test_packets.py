"""Broadcasts as Socket.IO's own packages write and read them; the bytes are theirs."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import Events, InvalidText, MalformedEnvelope, UsageError
from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.wire.socketio import msgpack, packets
from fastapi_rooms.wire.socketio.packets import Broadcast, EventPayload
from fastapi_rooms.wire.socketio.values import json_values

EMITTED = "93a7656d697474657283a47479706502a464617461"
"""How what `@socket.io/redis-emitter` 5.1.0 publishes begins."""

SERVED = "93a66f4145686c5183a47479706502a464617461"
"""And how what a server with `@socket.io/redis-adapter` 8.3.0 publishes."""

# From `@socket.io/redis-emitter` 5.1.0 and `@socket.io/redis-adapter` 8.3.0; notepack.io is 3.0.1.
VECTORS: dict[str, tuple[str, str, Broadcast]] = {
    "emitter, to all": (
        "/",
        EMITTED + "92a2686901a36e7370a12f83a5726f6f6d7390a5666c61677380a665786365707490",
        Broadcast(Target(), ["hi", 1], False),
    ),
    "emitter, to two rooms": (
        "/",
        EMITTED + "92a2686901a36e7370a12f83a5726f6f6d7392a27231a27232a5666c61677380"
        "a665786365707490",
        Broadcast(Target(("r1", "r2")), ["hi", 1], False),
    ),
    "emitter, to the room of a number": (
        "/",
        EMITTED + "91a26869a36e7370a12f83a5726f6f6d73912aa5666c61677380a665786365707490",
        Broadcast(Target(("42",)), ["hi"], False),
    ),
    "emitter, in another namespace": (
        "/chat",
        EMITTED + "92a26869a178a36e7370a52f6368617483a5726f6f6d7391a27231a5666c61677380"
        "a665786365707490",
        Broadcast(Target(("r1",)), ["hi", "x"], False),
    ),
    "emitter, with bytes": (
        "/",
        EMITTED + "93a26869c4030001ff81a46465657091c401aaa36e7370a12f83a5726f6f6d7390"
        "a5666c61677380a665786365707490",
        Broadcast(Target(), ["hi", b"\x00\x01\xff", {"deep": [b"\xaa"]}], False),
    ),
    "emitter, undefined, null, a date": (
        "/",
        EMITTED + "95a26869c0c0d7ffa1a5d600695735a581a16b01a36e7370a12f83a5726f6f6d7390"
        "a5666c61677380a665786365707490",
        Broadcast(Target(), ["hi", None, None, "2026-01-02T03:04:05.678Z", {"k": 1}], False),
    ),
    "emitter, volatile and all but a room": (
        "/",
        EMITTED + "92a2686901a36e7370a12f83a5726f6f6d7391a27231a5666c61677381a8766f6c6174696c65c3"
        "a665786365707491a27232",
        Broadcast(Target(("r1",), ("r2",)), ["hi", 1], True),
    ),
    "server, to a room": (
        "/",
        SERVED + "92a2686901a36e7370a12f83a5726f6f6d7391a27231a665786365707490a5666c61677380",
        Broadcast(Target(("r1",)), ["hi", 1], False),
    ),
    "server, volatile, uncompressed, all but a room": (
        "/",
        SERVED + "91a26869a36e7370a12f83a5726f6f6d7391a27231"
        "a665786365707491a27232a5666c61677382a8766f6c6174696c65c3a8636f6d7072657373c2",
        Broadcast(Target(("r1",), ("r2",)), ["hi"], True),
    ),
}


@pytest.mark.parametrize("vector", VECTORS)
def test_what_their_packages_publish_is_understood(vector: str) -> None:
    namespace, data, message = VECTORS[vector]
    assert packets.decode(bytes.fromhex(data), namespace) == message
    assert packets.decode(bytes.fromhex(data), "/other") is None


def test_what_we_publish_is_what_a_server_of_theirs_would_but_for_the_uid() -> None:
    uid = packets.uid_of("0a0657e0d0001936")
    packed = packets.packed_event("hi", [1])
    data = packets.encode(uid, "/", Target(("r1",)), packed, volatile=False)
    theirs = bytes.fromhex(VECTORS["server, to a room"][1])
    assert data.removeprefix(b"\x93" + msgpack.pack(uid)) == theirs.removeprefix(
        b"\x93" + msgpack.pack("oAEhlQ")
    )
    assert packets.is_own(data)
    assert not packets.is_own(theirs)


@pytest.mark.parametrize("volatile", [True, False])
@pytest.mark.parametrize("rooms", [None, ("r1",), ("r1", "a b", "#")])
def test_what_we_publish_comes_back(rooms: tuple[str, ...] | None, *, volatile: bool) -> None:
    message = Broadcast(Target(rooms, ("x",)), ["e", b"\0", {"a": [1.5, None]}], volatile)
    packed = packets.packed_event(message.event[0], message.event[1:])
    data = packets.encode(packets.uid_of("0" * 16), "/n", message.target, packed, volatile=volatile)
    assert packets.decode(data, "/n") == message


def test_a_room_of_digits_is_sent_as_a_number_too() -> None:
    packed = packets.packed_event("e", [])
    names = ("42", "-1", "0", "007", "1.5", "-0", "٣", "9" * 16)
    data = packets.encode("u", "/", Target(names, ("8",)), packed, volatile=False)
    opts = msgpack.unpack(data)[2]
    assert opts["rooms"] == ["42", 42, "-1", -1, "0", 0, "007", "1.5", "-0", "٣", "9" * 16]
    assert opts["except"] == ["8", 8]


def broadcast(packet: Any = None, opts: Any = None, **changes: Any) -> bytes:
    packet = {"type": 2, "data": ["e"], "nsp": "/", **changes} if packet is None else packet
    return msgpack.pack(["uid", packet, {} if opts is None else opts])


TOLERATED: dict[str, tuple[bytes, Target]] = {
    "no options in them": (broadcast(), Target()),
    "an emitter in another language": (
        broadcast(opts={"rooms": "", "flags": ""}),
        Target(),
    ),
    "no options": (msgpack.pack(["uid", {"type": 5, "data": ["e"]}, ""]), Target()),
    "a fourth element": (
        msgpack.pack([None, {"type": 2, "data": ["e"], "nsp": "/", "id": 3}, {}, "more"]),
        Target(),
    ),
    "numbers as rooms": (
        broadcast(opts={"rooms": [42, 1.5, "a", 2.0], "except": [7]}),
        Target(("42", "1.5", "a", "2"), ("7",)),
    ),
    "rooms that nobody can be in": (
        broadcast(opts={"rooms": ["", "x" * 256], "except": [""]}),
        Target(()),
    ),
}


@pytest.mark.parametrize("case", TOLERATED)
def test_what_node_servers_tolerate_is_tolerated(case: str) -> None:
    data, target = TOLERATED[case]
    message = packets.decode(data, "/")
    assert message is not None
    assert message == (target, ["e"], False)


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "JSON": b'{"a":1}',
    "no array": msgpack.pack({"a": 1}),
    "two elements": msgpack.pack(["uid", {"type": 2, "data": ["e"]}]),
    "trailing bytes": broadcast() + b"\xc0",
    "cut short": broadcast()[:-1],
    "no packet": msgpack.pack(["uid", "packet", {}]),
    "another type of packet": broadcast(type=1),
    "no data": broadcast({"type": 2, "nsp": "/"}),
    "empty data": broadcast(data=[]),
    "a name that is none": broadcast(data=[None]),
    "a true name": broadcast(data=[True]),
    "rooms that are none": broadcast(opts={"rooms": 5}),
    "a room that is none": broadcast(opts={"rooms": [None]}),
    "a true room": broadcast(opts={"rooms": [True]}),
    "too many rooms": broadcast(opts={"rooms": ["r"] * 70_000}),
    "options that are none": msgpack.pack(["uid", {"type": 2, "data": ["e"]}, [1]]),
    "invalid text": broadcast().replace(b"\xa1e", b"\xa1\xff"),
    "a promise of four billion elements": b"\xdd\xff\xff\xff\xff",
    "too deep": b"\x91" * 10_000 + b"\xc0",
    "deep": msgpack.pack(["uid", {"type": 2, "data": ["e"]}, {}])[:-1] + b"\x91" * 505 + b"\xc0",
    "an unknown extension": broadcast().replace(b"\xa1e", b"\xd4\x07\x00"),
    "a key that is a list": b"\x93\xa1u\x81\x90\xc0\x80",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_anything_else_is_malformed(case: str) -> None:
    with pytest.raises(MalformedEnvelope):
        packets.decode(MALFORMED[case], "/")


def test_older_versions_of_notepack_are_understood() -> None:
    extensions = b"\x94\xa1e\xd4\x00\x00\xd7\x00" + (5).to_bytes(8) + b"\xc7\x03\x00abc"
    data = broadcast(data=["?"]).replace(b"\x91\xa1?", extensions)
    message = packets.decode(data, "/")
    assert message is not None
    assert message.event == ["e", None, "1970-01-01T00:00:00.005Z", b"abc"]


def test_a_date_that_no_calendar_has_is_null() -> None:
    far = b"\x92\xa1e\xc7\x0c\xff\x00\x00\x00\x00" + (2**60).to_bytes(8)
    message = packets.decode(broadcast(data=["?"]).replace(b"\x91\xa1?", far), "/")
    assert message is not None
    assert message.event == ["e", None]


def test_keys_are_text_as_json_has_them() -> None:
    packed = {1: "a", None: "c", b"\xff": "d", "k": {2.5: "e"}}
    message = packets.decode(broadcast(data=["e", packed]), "/")
    assert message is not None
    assert message.event[1] == {"1": "a", "null": "c", "\ufffd": "d", "k": {"2.5": "e"}}


# What is refused, and what is mended.


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("connect", [], "keeps for itself"),
        ("e", [b"x"] * 11, "11 byte strings"),
        ("e", [b"x", {"_placeholder": True}], "_placeholder"),
        ("e", [[{"a": {"__proto__": 1}}]], "__proto__"),
    ],
)
def test_an_event_that_would_do_harm_is_refused(name: str, args: list[Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        packets.packed_event(name, args)


@pytest.mark.parametrize("value", [0, 99, "a", [0]])
def test_no_argument_is_taken_for_what_stands_for_bytes(value: Any) -> None:
    written_by_a_client = {"\0fastapi_rooms bytes": value, "\0bytes": value}
    for key, each in written_by_a_client.items():
        args = ({key: each}, b"x")
        assert json_values(args, DEFAULT_JSON) == list(args)


def test_an_event_that_is_too_deep_is_refused() -> None:
    value: Any = 1
    for _ in range(1_100):
        value = [value]
    with pytest.raises(UsageError, match="too deeply"):
        packets.packed_event("e", [value])
    with pytest.raises(UsageError, match="too deeply"):
        packets.packed_event("e", [2**70, value])


def test_a_lone_surrogate_is_refused_in_an_event_and_replaced_in_a_message() -> None:
    with pytest.raises(InvalidText) as refused:
        packets.packed_event("e", ["\ud800"])
    assert refused.value.text == "\ud800"
    packed = packets.packed_payload(Payload.of_json({"\udfff": "a\ud800é"}), Events())
    assert packed is not None
    assert msgpack.unpack(packed) == ["message", {"\ufffd": "a\ufffdé"}]


def test_integers_are_what_javascript_makes_of_them() -> None:
    packed = packets.packed_event("e", [2**64 - 1, -(2**63), 2**70, -(2**70), 10**400, True])
    values = [2**64 - 1, -(2**63), 2.0**70, -(2.0**70), None, True]
    assert msgpack.unpack(packed) == ["e", *values]


class Silent:
    """A codec by which nothing crosses."""

    def to_native(self, event: str, args: list[Any]) -> str | bytes | None:
        return None

    def to_event(self, message: str | bytes) -> list[Any] | None:
        return None


class Wrong(Silent):
    """A codec with an error in it."""

    def to_event(self, message: str | bytes) -> list[Any] | None:
        return []


def test_a_codec_may_keep_something_to_one_side() -> None:
    assert packets.packed_payload(Payload.of_text("x"), Silent()) is None
    assert packets.native_payload(["e"], Silent()) is None
    assert msgpack.unpack(packets.packed_event("e", [1])) == ["e", 1]
    assert packets.event_payload("e", [1], Silent()) == packets.packed_event("e", [1])


def test_a_codec_that_returns_no_event_is_told_so() -> None:
    with pytest.raises(UsageError, match="to_event"):
        packets.packed_payload(Payload.of_text("x"), Wrong())


class Returning(Silent):
    """A codec that makes one event of everything."""

    def __init__(self, *event: Any) -> None:
        self.event = list(event)

    def to_event(self, message: str | bytes) -> list[Any] | None:
        return self.event


@pytest.mark.parametrize(
    "args",
    [
        [(b"x",) * 11],
        [bytearray(b"x")] * 11,
        [memoryview(b"x")] * 11,
        [({"_placeholder": True, "num": 0}, b"x")],
        [{b"_placeholder": True}, b"x"],
    ],
)
def test_what_a_codec_returns_is_checked_whatever_it_is_made_of(args: list[Any]) -> None:
    with pytest.raises(UsageError, match="byte"):
        packets.packed_payload(Payload.of_text("x"), Returning("e", *args))


@pytest.mark.parametrize("key", ["__proto__", b"__proto__"], ids=["text", "bytes"])
def test_no_key_that_would_end_node_servers_comes_out_of_a_codec(key: str | bytes) -> None:
    codec = Returning("e", ({key: b"x", 1: 2**70},))
    packed = packets.packed_payload(Payload.of_text("x"), codec)
    assert packed is not None
    assert msgpack.unpack(packed) == ["e", [{"1": 2.0**70}]]


def test_a_codec_that_returns_what_node_has_no_form_for_is_told_so() -> None:
    with pytest.raises(UsageError, match=r"to_event.*set"):
        packets.packed_payload(Payload.of_text("x"), Returning("e", {1}))


def test_an_event_is_encoded_once_for_each_side() -> None:
    payload = packets.event_payload("e", [b"\0"], Events())
    assert isinstance(payload, EventPayload)
    assert payload.text == '{"event":"e","args":[{"$binary":"AA=="}]}'
    assert packets.packed_payload(payload, Wrong()) is payload.packed
