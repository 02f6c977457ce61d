"""Messages in parts: what is put together is what was taken apart, and has a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.parts import PART, Assembly, Part, parts_of


@given(st.integers(1, 3 * PART + 2) | st.sampled_from([PART, PART + 1, 2 * PART, 2 * PART + 1]))
def test_what_is_taken_apart_is_put_together_again(size: int) -> None:
    message = bytes(number % 251 for number in range(999)) * (size // 999 + 1)
    message = message[:size]
    pieces = list(parts_of(message))
    assert max(len(piece.data) for piece in pieces) <= PART
    assert [piece.begins for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert [piece.ends for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assembly = Assembly()
    for _ in range(2):
        assert [assembly.add(piece) for piece in pieces] == [None] * (len(pieces) - 1) + [message]


def test_what_was_not_whole_when_another_begins_is_dropped() -> None:
    assembly = Assembly()
    assert assembly.add(Part(True, False, b"never ")) is None
    assert assembly.add(Part(True, False, b"all ")) is None
    assert assembly.add(Part(False, True, b"of it")) == b"all of it"


def test_a_part_of_no_message_is_an_error() -> None:
    assembly = Assembly()
    with pytest.raises(ValueError, match="no message"):
        assembly.add(Part(False, True, b"x"))
    assembly.add(Part(True, False, b"x"))
    assembly.drop()
    with pytest.raises(ValueError, match="no message"):
        assembly.add(Part(False, True, b"x"))


def test_who_sends_parts_for_ever_is_stopped_and_nothing_of_it_is_kept() -> None:
    assembly = Assembly(limit=10)
    assert assembly.add(Part(True, False, bytes(6))) is None
    with pytest.raises(ValueError, match="longer than 10"):
        assembly.add(Part(False, False, bytes(6)))
    with pytest.raises(ValueError, match="no message"):
        assembly.add(Part(False, True, b""))
