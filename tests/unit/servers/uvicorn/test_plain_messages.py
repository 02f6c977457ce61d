"""Plain messages are read past the server's parser, and anything else is left to it."""

from __future__ import annotations

import pytest
from websockets.utils import apply_mask

from fastapi_rooms.servers.uvicorn.plain_messages import messages_in
from tests.unit.servers.uvicorn.support import ANYTHING_ELSE, MAX_SIZE, frame, text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535])
def test_whole_messages_are_parsed(size: int) -> None:
    words, data = "é" * (size // 2), bytes(size)
    assert messages_in(text(words) + frame(2, data), MAX_SIZE, apply_mask) == [words, data]


def test_a_length_in_more_bytes_than_it_needs_is_read_as_the_parser_reads_it() -> None:
    assert messages_in(frame(1, b"x", length_bytes=2), 1, apply_mask) == ["x"]


@pytest.mark.parametrize("other", ANYTHING_ELSE.values(), ids=ANYTHING_ELSE)
def test_anything_else_is_left_alone_with_all_that_came_with_it(other: bytes) -> None:
    plain = text("plain")
    assert messages_in(plain, 10, apply_mask) is not None
    for data in (other, plain + other, other + plain):
        assert messages_in(data, 10, apply_mask) is None
