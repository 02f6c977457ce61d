"""What anyone who may write to Redis, or who poses as it, can send."""

from __future__ import annotations

from hypothesis import strategies as st

from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast, Heartbeat, HeartbeatKind, Reply, Request
from fastapi_rooms.wire.verbs import Verb
from tests.unit.strategies import any_text, namespaces, node_ids, room_names
from tests.unit.support import OTHER_NODE, channel_of

# Envelopes.

_names = st.lists(st.one_of(room_names, st.sampled_from(["lobby", "bar"])), max_size=4).map(tuple)
_payloads = st.one_of(any_text.map(Payload.of_text), st.binary().map(Payload.of_bytes))
broadcasts = st.builds(
    Broadcast,
    st.one_of(node_ids, st.just(OTHER_NODE)),
    st.integers(0, 2**64 - 1),
    st.one_of(namespaces, st.sampled_from(["/", "/chat"])),
    st.builds(Target, st.one_of(st.none(), _names), _names),
    _payloads,
    st.booleans(),
)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=5,
)
_arguments = st.one_of(
    st.dictionaries(any_text, _json, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "sid": _json | st.just("ann"),
            "rooms": _json | st.lists(any_text, max_size=3) | st.just(["lobby"]),
            "code": _json | st.integers(-10, 5000),
            "reason": _json,
            "event": _json | st.just("event"),
            "args": _json | st.lists(_json, max_size=2),
        },
    ),
)
_big = st.integers(0, 2**64 - 1)
requests = st.builds(
    Request,
    node_ids,
    _big,
    st.one_of(namespaces, st.sampled_from(["/", "/chat"])),
    st.builds(Target, st.one_of(st.none(), _names), _names),
    st.one_of(st.just(0), _big),
    st.one_of(st.sampled_from([*Verb]), any_text),
    _arguments,
)
beats = st.builds(
    Heartbeat,
    node_ids,
    _big,
    st.sampled_from(HeartbeatKind),
    st.integers(0, 2**32 - 1).map(lambda ms: ms / 1000),
)
answers = st.builds(
    Reply,
    node_ids,
    _big,
    _big,
    st.integers(0, 2**32 - 1),
    last=st.booleans(),
    refused=st.booleans(),
    data=st.binary(max_size=40),
    unsupported=st.booleans(),
)
between_workers = st.one_of(requests, beats, answers).map(codec.encode)
"""What workers say to each other, said by somebody else."""


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An envelope in which a few things are not as they were."""
    data = bytearray(codec.encode(draw(broadcasts)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        some = draw(st.binary(max_size=4))
        how = draw(st.sampled_from(["cut", "put", "replace", "remove", "repeat", "flip"]))
        if how == "cut":
            del data[at:]
        elif how == "put":
            data[at:at] = some
        elif how == "replace":
            data[at : at + len(some)] = some
        elif how == "remove":
            del data[at : at + len(some)]
        elif how == "repeat":
            data[at:at] = data[at : at + 30]
        elif data:
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


envelopes = st.one_of(
    st.binary(max_size=100),
    st.binary(max_size=60).map(lambda rest: b"\x01\x01" + rest),  # of our version and kind
    mutated(),
    broadcasts.map(codec.encode),
    st.builds(lambda data, size: data[:size], between_workers, st.integers(0, 200)),
)
"""Junk, and what is nearly, or is, an envelope."""

# Replies, in both versions of Redis' protocol.

CHANNELS = [channel_of("lobby"), channel_of("bar")]
"""Those that the subscriber under test wants."""


def bulk(data: bytes) -> bytes:
    """A string of so many bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(elements: list[bytes], mark: bytes = b"*") -> bytes:
    """Several replies in one."""
    return mark + b"%d\r\n" % len(elements) + b"".join(elements)


_line = st.binary(max_size=20).map(lambda text: text.replace(b"\r", b"").replace(b"\n", b""))
_numbers = st.integers(-(2**63), 2**63 - 1)
_scalars = st.one_of(
    _numbers.map(lambda number: b":%d\r\n" % number),
    st.binary(max_size=40).map(bulk),
    st.sampled_from([b"message", b"subscribe", b"unsubscribe", *CHANNELS]).map(bulk),
    _line.map(lambda text: b"+%b\r\n" % text),
    st.one_of(_line, st.just(b"NOPERM no")).map(lambda text: b"-%b\r\n" % text),
    st.sampled_from(
        [
            *(b"$-1\r\n", b"*-1\r\n", b"_\r\n", b"#t\r\n", b"#f\r\n", b",1.5\r\n", b",nan\r\n"),
            *(b"(123456789012345678901234567890\r\n", b"=7\r\ntxt:abc\r\n", b"!5\r\nERR x\r\n"),
        ]
    ),
)
replies = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).flatmap(
            lambda some: st.sampled_from([b"*", b"~", b">"]).map(lambda mark: array(some, mark))
        ),
        st.lists(st.tuples(inner, inner), max_size=2).map(
            lambda pairs: b"%%%d\r\n" % len(pairs) + b"".join(k + v for k, v in pairs)
        ),
    ),
    max_leaves=8,
)
"""Whatever can be said in the protocol."""

_marks = st.sampled_from([b"*", b">"])
plausible = st.one_of(
    st.builds(
        lambda mark, channel, data: array([bulk(b"message"), channel, data], mark),
        _marks,
        st.one_of(st.sampled_from(CHANNELS).map(bulk), replies),
        st.one_of(envelopes.map(bulk), replies),
    ),
    st.builds(
        lambda mark, kind, channel, count: array([bulk(kind), channel, count], mark),
        _marks,
        st.sampled_from([b"subscribe", b"unsubscribe", b"psubscribe", b"smessage", b"pong"]),
        st.one_of(st.sampled_from(CHANNELS).map(bulk), replies),
        st.one_of(_numbers.map(lambda number: b":%d\r\n" % number), replies),
    ),
    st.integers(0, 3).map(lambda number: b":%d\r\n" % number),  # as to a PUBLISH
)
"""What Redis might say to us, and what is like it."""

_lengths = st.one_of(
    st.integers(-5, 2**66), st.sampled_from([2**16, 2**24, 2**31, 2**32 - 1, 2**63 - 1])
)
broken = st.one_of(
    st.binary(max_size=60),
    st.builds(  # announced, and not sent
        lambda mark, length, rest: mark + b"%d\r\n" % length + rest,
        st.sampled_from([b"$", b"*", b"%", b"~", b">", b"=", b"!", b"|"]),
        # An array of millions is room that the parser asks for at once, though it fills none of it.
        _lengths.filter(lambda length: not 2**20 < length < 2**34),
        st.binary(max_size=20),
    ),
    replies.map(lambda reply: reply[:-3]),
)
"""What is no reply, or not all of one."""

streams = st.lists(st.one_of(replies, plausible, broken), min_size=1, max_size=12).map(b"".join)
