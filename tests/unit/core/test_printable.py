"""Text that somebody else chose, in a log or on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.printable import printable


@given(st.text())
def test_nothing_but_what_can_be_printed_is_left(text: str) -> None:
    assert printable(text).isprintable()


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("hé 🎉 #1") == "hé 🎉 #1"
    assert printable("a\x1b[2J\n\x9b\u202e\ud800") == r"a\x1b[2J\n\x9b\u202e\ud800"
