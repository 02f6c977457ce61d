"""Whatever a client sends as its resume frame: something well formed, or nothing."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.names import check_room
from fastapi_rooms.wire.client_framing import MAX_RESUME_BYTES, is_resume, parse_resume

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
said = st.fixed_dictionaries(
    {},
    optional={
        "token": anything | st.text(alphabet="0123456789abcdef", min_size=32, max_size=32),
        "positions": anything | st.dictionaries(st.text(max_size=300), anything | st.text()),
    },
)


def _frame(value: Any) -> str:
    return "\0r" + orjson.dumps(value).decode()


@given(
    st.one_of(
        st.text(st.characters()),
        st.text(st.characters()).map(lambda text: "\0r" + text),
        st.binary(),
        st.none(),
        anything.map(_frame),
        said.map(_frame),
    )
)
def test_it_is_nothing_or_well_formed(data: object) -> None:
    resume = parse_resume(data)
    if resume is None:
        return
    assert is_resume(data)
    assert isinstance(data, str)
    assert len(data) <= MAX_RESUME_BYTES
    assert resume.token is None or len(resume.token) == 32
    for room, position in resume.positions.items():
        assert check_room(room) == room
        assert isinstance(position, str)
