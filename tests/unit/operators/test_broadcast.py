"""The operator: immutable, chainable in any order, and what it hands over."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import InvalidRoomName, UsageError
from fastapi_rooms.operators.broadcast import BroadcastOperator
from tests.unit.support import RecordingDispatcher


@pytest.fixture
def recorder() -> RecordingDispatcher:
    return RecordingDispatcher()


@pytest.fixture
def everyone(recorder: RecordingDispatcher) -> BroadcastOperator:
    return BroadcastOperator(recorder)


async def test_everyone_is_addressed_until_a_room_is_named(
    everyone: BroadcastOperator, recorder: RecordingDispatcher
) -> None:
    await everyone.send_text("hé")
    assert recorder.sent == [(Target(), "hé".encode(), False, False, False)]


async def test_bytes_are_sent_as_binary_and_json_as_text(
    everyone: BroadcastOperator, recorder: RecordingDispatcher
) -> None:
    await everyone.send_bytes(b"\xff")
    await everyone.send_json({"a": [1, None]})
    assert [message[1:3] for message in recorder.sent] == [
        (b"\xff", True),
        (b'{"a":[1,null]}', False),
    ]


async def test_a_chain_says_the_same_in_any_order(
    everyone: BroadcastOperator, recorder: RecordingDispatcher
) -> None:
    await everyone.to("a", "b").except_("x").local.volatile.send_text("1")
    await everyone.volatile.local.except_("x").to("a").to("b").send_text("1")
    expected = (Target(("a", "b"), ("x",)), b"1", False, True, True)
    assert recorder.sent == [expected, expected]


async def test_every_call_makes_a_new_operator_and_leaves_the_old_as_it_was(
    everyone: BroadcastOperator, recorder: RecordingDispatcher
) -> None:
    lobby = everyone.to("lobby")
    others = [lobby.to("bar"), lobby.except_("ann"), lobby.local, lobby.volatile]
    assert len({id(operator) for operator in (everyone, lobby, *others)}) == 6
    for operator in (everyone, lobby):
        await operator.send_text("x")
    assert [message[0] for message in recorder.sent] == [Target(), Target(("lobby",))]
    assert all(message[3:] == (False, False) for message in recorder.sent)


async def test_an_operator_can_be_kept_and_used_again(
    everyone: BroadcastOperator, recorder: RecordingDispatcher
) -> None:
    lobby = everyone.to("lobby")
    for text in ("1", "2"):
        await lobby.send_text(text)
    assert [message[:2] for message in recorder.sent] == [
        (Target(("lobby",)), b"1"),
        (Target(("lobby",)), b"2"),
    ]


@pytest.mark.parametrize("verb", ["to", "except_"])
@pytest.mark.parametrize("name", ["", "x" * 256, 5, None, b"lobby", ["lobby"]])
def test_a_bad_name_is_refused_where_it_is_given(
    everyone: BroadcastOperator, verb: str, name: Any
) -> None:
    with pytest.raises(InvalidRoomName):
        getattr(everyone, verb)("fine", name)


@pytest.mark.parametrize("verb", ["to", "except_"])
def test_more_names_than_a_message_can_carry_are_refused_where_they_are_given(
    everyone: BroadcastOperator, verb: str
) -> None:
    most = getattr(everyone, verb)(*map(str, range(65_535)))
    assert getattr(most, verb)("0") is not None, "one that is named already is no more"
    with pytest.raises(UsageError, match="at most 65535"):
        getattr(most, verb)("one more")


@pytest.mark.parametrize(
    ("verb", "data", "error"),
    [
        ("send_text", b"bytes", TypeError),
        ("send_bytes", "text", TypeError),
        ("send_json", object(), TypeError),
        ("send_text", "\ud800", UnicodeEncodeError),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_delivered(
    everyone: BroadcastOperator,
    recorder: RecordingDispatcher,
    verb: str,
    data: object,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await getattr(everyone, verb)(data)
    assert recorder.sent == []


def test_an_operator_shows_whom_it_addresses(everyone: BroadcastOperator) -> None:
    assert repr(everyone) == "<BroadcastOperator to=None except_=()>"
    assert repr(everyone.to("a").except_("b").local.volatile) == (
        "<BroadcastOperator to=('a',) except_=('b',) local volatile>"
    )


def test_an_operator_cannot_be_written_to(everyone: BroadcastOperator) -> None:
    with pytest.raises(AttributeError):
        everyone.room = "lobby"  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        everyone.local = True  # type: ignore[misc, assignment]
