"""What may be believed of what is read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.adapters.redis.history.reading import parse_stretch, parse_top
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Kept

EPOCH = "00000000000000ab"
META = [EPOCH.encode(), b"5", b"50"]


def entry(offset: int, tag: int | None = None) -> list[Any]:
    return [b"%d-%d" % (offset, offset * 10 if tag is None else tag), [b"d", b"m%d" % offset]]


def offsets(*entries: Any) -> list[int]:
    stretch = parse_stretch(META, [*entries])
    assert stretch is not None
    assert stretch.top == Position(EPOCH, 5, 50)
    return [message.offset for message in stretch.messages]


def test_messages_that_lead_up_to_the_end_are_kept() -> None:
    stretch = parse_stretch(META, [entry(4), entry(5)])
    assert stretch == (Position(EPOCH, 5, 50), [Kept(4, 40, b"m4"), Kept(5, 50, b"m5")])


def test_what_came_after_the_end_was_read_is_left_out() -> None:
    assert offsets(entry(4), entry(5), entry(6), entry(7)) == [4, 5]


def test_what_stands_before_a_hole_is_not_kept() -> None:
    assert offsets(entry(1), entry(2), entry(4), entry(5)) == [4, 5]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(3), entry(4)],
        [entry(4), entry(5, tag=51)],
        [entry(6)],
        [entry(5), [b"6-60", [b"other", b""]]],
        [[b"5-50", [b"other", b""]]],
        [[b"5-50", [b"d", b"", b"d", b""]]],
        [[b"5-50", [b"d", None]]],
        [[b"5-50", None]],
        [[b"05-50", [b"d", b""]]],
        [[b"5", [b"d", b""]]],
        [[5, [b"d", b""]]],
        [None],
    ],
)
def test_a_stream_that_ends_elsewhere_is_not_believed(entries: list[Any]) -> None:
    assert offsets(*entries) == []


@pytest.mark.parametrize("entries", [None, b"", 7, {}])
def test_entries_that_are_none_are_none(entries: Any) -> None:
    stretch = parse_stretch(META, entries)
    assert stretch is not None
    assert stretch.messages == []


def test_a_room_without_messages_ends_before_the_first() -> None:
    assert parse_top([EPOCH.encode(), None, None]) == Position(EPOCH, 0, 0)


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        [None, None, None],
        [EPOCH.encode(), b"5"],
        [EPOCH.upper().encode(), b"5", b"50"],
        [EPOCH.encode(), b"5", None],
        [EPOCH.encode(), None, b"50"],
        [EPOCH.encode(), b"05", b"50"],
        [EPOCH.encode(), b"-5", b"50"],
        [EPOCH.encode(), b"5", b"%d" % 2**64],
        [EPOCH.encode(), b"%d" % (2**53 + 1), b"50"],
        [EPOCH, b"5", b"50"],
    ],
)
def test_a_numbering_that_makes_no_sense_is_none(meta: Any) -> None:
    assert parse_top(meta) is None
    assert parse_stretch(meta, [entry(5)]) is None


ANYTHING = st.recursive(
    st.none() | st.integers() | st.binary() | st.sampled_from([b"5-50", b"d", *META]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(), inner, max_size=2),
    max_leaves=12,
)


@given(ANYTHING | st.just(META), ANYTHING)
def test_whatever_comes_is_a_stretch_or_none(meta: Any, entries: Any) -> None:
    stretch = parse_stretch(meta, entries)
    if stretch is not None and stretch.messages:
        assert stretch.messages[-1].offset == stretch.top.offset
        assert stretch.messages[-1].tag == stretch.top.tag
