"""Positions as text, and the tags of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.position import MAX_OFFSET, Position, tag_of

EPOCH = "0123456789abcdef"
epochs = st.binary(min_size=8, max_size=8).map(bytes.hex)
tags = st.integers(1, 2**64 - 1)


@given(epochs, st.integers(1, MAX_OFFSET), tags)
def test_a_position_is_read_back_from_its_text(epoch: str, offset: int, tag: int) -> None:
    position = Position(epoch, offset, tag)
    assert Position.parse(str(position)) == position


def test_before_the_first_message_there_is_a_position_too() -> None:
    assert Position.parse(str(Position(EPOCH, 0, 0))) == Position(EPOCH, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"{EPOCH}.1",
        f"{EPOCH}.1.{'0' * 15}",
        f"{EPOCH}.1.{'0' * 16}",  # no message has no tag
        f"{EPOCH}.0.{'1' * 16}",
        f"{EPOCH}.01.{'1' * 16}",
        f"{EPOCH}.-1.{'1' * 16}",
        f"{EPOCH}.{MAX_OFFSET + 1}.{'1' * 16}",
        f"{EPOCH}.{'9' * 400}.{'1' * 16}",
        f"{EPOCH.upper()}.1.{'1' * 16}",
        f"{EPOCH}.١.{'1' * 16}",  # a digit, but no ASCII
        f"{EPOCH}.1.{'1' * 16}\n",
        f" {EPOCH}.1.{'1' * 16}",
        None,
        1,
        EPOCH.encode(),
    ],
)
def test_what_is_no_position_is_none(text: object) -> None:
    assert Position.parse(text) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    position = Position.parse(text)
    assert position is None or str(position) == text


def test_a_message_has_the_same_tag_whenever_it_is_sent_and_no_other_has_it() -> None:
    nodes = [f"{n:016x}" for n in range(20)]
    made = [tag_of(node, sequence) for node in nodes for sequence in range(500)]
    assert len(set(made)) == len(made)
    assert made[:500] == [tag_of(nodes[0], sequence) for sequence in range(500)]
    assert all(0 < tag < 2**64 for tag in made)
