"""Frames of edges and backends: anything may come, and nothing but frames gets through."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.link import Link
from fastapi_rooms.core.parts import PART, Assembly
from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.servers.gateway.connection import VirtualConnection
from fastapi_rooms.servers.gateway.incoming import Incoming
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

NODE = "00112233445566ff"
headers = st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=3)


@given(st.sampled_from(FrameKind), st.binary(min_size=8, max_size=8), st.binary(max_size=99))
def test_a_frame_is_read_as_it_was_written(kind: FrameKind, connection: bytes, body: bytes) -> None:
    frame = Frame(kind, NODE, connection, 7, body)
    data = wire.encode(frame)
    assert wire.is_frame(data)
    assert wire.decode(data) == frame


@given(st.binary(max_size=200) | st.binary(max_size=200).map(wire.BEGINNING.__add__))
def test_what_is_no_frame_is_malformed_and_nothing_else(data: bytes) -> None:
    with suppress(MalformedEnvelope):
        frame = wire.decode(data)
        assert wire.encode(frame) == data


@given(st.binary(max_size=300))
def test_bodies_are_malformed_or_right(body: bytes) -> None:
    for read in (
        wire.read_json,
        wire.unpack_close,
        wire.unpack_credit,
        wire.unpack_release,
        wire.unpack_deny,
        wire.unpack_users,
        wire.unpack_part,
        wire.unpack_mark,
        wire.unpack_arrived,
    ):
        with suppress(MalformedEnvelope):
            read(body)


@given(st.integers(200, 599), headers, st.binary(max_size=50))
def test_a_deny_is_read_as_it_was_written(
    status: int, sent: list[tuple[bytes, bytes]], body: bytes
) -> None:
    assert wire.unpack_deny(wire.pack_deny(status, sent, body)) == (status, sent, body)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_marks_are_read_as_they_were_written(mark: int, limit: int) -> None:
    assert wire.unpack_mark(wire.pack_mark(mark)) == mark
    assert wire.unpack_arrived(wire.pack_arrived(mark, limit)) == (mark, limit)


@given(
    st.sampled_from([FrameKind.TEXT, FrameKind.BYTES]),
    st.integers(0, 5) | st.integers(PART - 3, PART + 3) | st.integers(2 * PART - 3, 2 * PART + 3),
)
def test_a_message_is_put_together_from_its_frames_as_it_was(kind: FrameKind, size: int) -> None:
    message = ("é" * size).encode()[: size // 2 * 2]
    frames = list(wire.frames_of(kind, message))
    assert all(len(body) <= PART + 1 for _, body in frames)
    assert [wire.ends_message(*each) for each in frames] == [False] * (len(frames) - 1) + [True]
    incoming, link = Incoming(), Link[None]()
    for each in frames:
        incoming.came(*each)
    taken = [incoming.take(link)[0] for _ in frames]
    assert taken[:-1] == [None] * (len(frames) - 1)
    value = message.decode() if kind is FrameKind.TEXT else message
    assert taken[-1] is not None
    assert value in taken[-1].values()
    assert link.taken == 1


parts = st.tuples(st.integers(0, 9), st.integers(0, 40).map(bytes)).map(
    lambda each: (FrameKind.PART, bytes(each[:1]) + each[1])
)


@given(st.lists(parts | st.tuples(st.just(FrameKind.BYTES), st.binary(max_size=9)), max_size=12))
def test_whatever_parts_come_all_are_paid_for_and_no_message_is_longer_than_the_limit(
    frames: list[tuple[FrameKind, bytes]],
) -> None:
    incoming, receiver, sender = Incoming(Assembly(100)), Link[None](), Link[None]()
    for kind, body in frames:
        with suppress(MalformedEnvelope):
            incoming.came(kind, body)
            receiver.came(len(body))
            sender.sent_part(len(body))
    while incoming:
        message, credit = incoming.take(receiver)
        said = message or {"bytes": b""}
        assert len(said.get("bytes", said.get("text", ""))) <= 100
        assert credit is None
    credit = receiver.credit()
    assert credit is None or sender.credited(*credit)
    assert sender.may_send
    assert not incoming.size


user_events = st.builds(
    UserEvent,
    st.sampled_from(["join", "leave"]),
    st.text(min_size=1, max_size=9),
    st.integers(1, 2**53),
)


@given(st.lists(user_events, max_size=5))
def test_who_came_and_left_is_read_as_it_was_written(events: list[UserEvent]) -> None:
    once = frozenset(event.version for event in events[::2])
    users = wire.Users("/", "tea", events, once)
    assert wire.unpack_users(wire.pack_users(users)) == users


OPEN: dict[str, object] = {
    "path": "/chat",
    "raw_path": "/chat",
    "query_string": "",
    "root_path": "",
    "http_version": "1.1",
    "scheme": "ws",
    "headers": [["host", "x"]],
    "client": ["127.0.0.1", 1],
    "server": None,
    "subprotocols": [],
    "sid": "sid",
    "attempt": 0,
    "lost": 0,
    "sockets": {},
}
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


async def _never(*_: object) -> None:
    """Publishes nothing."""


@given(st.sampled_from(sorted(OPEN)), values)
async def test_an_opening_with_a_field_of_any_kind_is_malformed_or_makes_a_scope(
    name: str, value: object
) -> None:
    with suppress(MalformedEnvelope):
        connection = VirtualConnection(_never, OPEN | {name: value})
        assert isinstance(connection.scope["path"], str)


@given(st.lists(st.tuples(st.sampled_from(FrameKind), st.binary(max_size=30)), max_size=6))
async def test_a_connection_takes_any_frames_without_harm(
    frames: list[tuple[FrameKind, bytes]],
) -> None:
    connection = VirtualConnection(_never, OPEN)
    for number, (kind, body) in enumerate(frames, 2):
        with suppress(MalformedEnvelope):
            connection.received(Frame(kind, NODE, bytes(8), number, body))
