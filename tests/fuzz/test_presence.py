"""Whatever is published as an event of presence, or answered about it: understood, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from fastapi_rooms import AdapterUnavailable, Emitter, MalformedEnvelope, Present
from fastapi_rooms.adapters.presence import Beat, Lease
from fastapi_rooms.adapters.redis.presence import lease_script, replies, room_answer
from fastapi_rooms.adapters.redis.presence.questions import PresenceQuestions, Question
from fastapi_rooms.core.names import MAX_NAME_BYTES
from fastapi_rooms.core.presence import MAX_VERSION
from fastapi_rooms.wire import presence

parts = st.sampled_from(
    [b"\x01", b"\x06", b"join", b"leave", b" ", b"\n", b"1", b"3", b"0", b"/", b"#", b"a", b"\xff"]
)
events = st.one_of(
    st.binary(max_size=40),
    st.lists(parts, max_size=20).map(b"".join),
    st.lists(parts, max_size=14).map(lambda some: presence.BEGINNING + b"".join(some)),
    st.builds(
        lambda kind, numbers, rest: presence.BEGINNING + kind + b" %d %d %d\n" % numbers + rest,
        st.sampled_from([b"join", b"leave"]),
        st.tuples(st.integers(0, 2**54), st.integers(0, 8), st.integers(0, 8)),
        st.binary(max_size=16) | st.just(b"/#abc"),
    ),
)
fields = st.one_of(
    st.binary(max_size=30),
    st.builds(lambda sid: b"s" + b"0" * 16 + sid, st.binary(max_size=10)),
    st.builds(lambda user: b"u" + user, st.binary(max_size=10)),
    st.sampled_from([b"v", b"n", b"m", b"w" + b"0" * 16, b"=own"]),
)
scalars = st.one_of(
    st.none(),
    st.integers(-2, 2**63),
    fields,
    st.sampled_from([b"0", b"1", b"12", b"1 2 3", b"join", b"leave", b"0" * 16 + b":1"]),
    st.builds(hiredis.ReplyError, st.sampled_from(["ERR", "NOPERM", "OOM", "WRONGTYPE"])),
    st.booleans(),
    st.floats(allow_nan=False),
)
answers = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(fields, inner, max_size=4),
    max_leaves=20,
)


@given(events)
@example(presence.BEGINNING + b"join 1 3 1\n/#ab")
def test_an_event_is_malformed_or_exactly_what_it_decodes_to(data: bytes) -> None:
    try:
        namespace, room, event = presence.decode(data)
    except MalformedEnvelope:
        return
    assert presence.encode(f"{namespace}#{room}".encode(), event) == data
    assert 0 < event.version <= MAX_VERSION
    assert all(0 < len(text.encode()) <= MAX_NAME_BYTES for text in (namespace, room, event.user))


@given(answers)
@example([0, 1, -1, 0, b"", b"", b"join", b"\xff", 1])
def test_an_answer_about_a_room_is_a_change_or_refused(reply: Any) -> None:
    try:
        (fenced, told, version, next_leave, _, _), sockets = room_answer.decode(reply)
    except AdapterUnavailable:
        return
    assert isinstance(fenced, bool)
    assert all(event.user and event.version >= -2 for event in told)
    assert isinstance(version, int)
    assert next_leave is None or next_leave >= 0
    assert isinstance(sockets, int)


@given(answers)
def test_an_answer_about_a_lease_is_one_or_refused(reply: Any) -> None:
    try:
        beat = lease_script.decode(reply, Lease("0" * 16, 1))
    except AdapterUnavailable:
        return
    assert isinstance(beat, Beat)
    assert all(len(lease.node) == 16 and lease.number > 0 for lease in beat.overdue)


@given(answers, answers, answers)
def test_whatever_is_read_is_understood_or_left_out(reply: Any, other: Any, third: Any) -> None:
    page = replies.fields_in(reply)
    assert page.cursor >= 0
    assert all(entry.sid and entry.user for _, entry in page.sockets)
    assert all(user and tabs >= 0 for user, tabs in page.users.items())
    sums = replies.sums_in(reply, other, third)
    assert all(number >= 0 for number in sums[:4])
    assert 0 <= replies.number_in(reply) <= MAX_VERSION
    cursor, items = replies.page_in([b"0", other])
    assert cursor == 0
    assert all(isinstance(item, bytes) for item in items)
    replies.names_in(items)


@given(st.lists(answers, max_size=6))
@example([b"3", (5, {b"uann": b"1"}), (0, {b"ubob": b"0"})])
def test_whatever_an_emitter_is_answered_is_understood_or_left_out(replies: list[Any]) -> None:
    questions = PresenceQuestions("rooms", sharded=False)
    notes = Emitter(Redis()).presence
    present = answer_of(notes._users("tea"), replies)
    assert isinstance(present, Present)
    assert 0 <= present.version <= MAX_VERSION
    assert all(user.user and all(user.sids) for user in present.users)
    assert isinstance(answer_of(questions.is_present(b"/#tea", "ann"), replies), bool)
    rooms = answer_of(questions.rooms_of_user("/", "ann"), replies)
    assert isinstance(rooms, set)
    assert all(rooms)


def answer_of(question: Question[Any], replies: Sequence[Any]) -> Any:
    """What is made of replies, and of nothing any more when there are none left."""
    left = iter(replies)
    reply = None
    while True:
        try:
            question.send(reply)
        except StopIteration as end:
            return end.value
        reply = next(left, None)
