"""A message in its place, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.position import MAX_OFFSET, Position
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import codec, kept

EPOCH = "0123456789abcdef"
tags = st.integers(1, 2**64 - 1)


def test_its_bytes_are_these() -> None:
    data = kept.encode(Position(EPOCH, 7, 2**64 - 1), 0, b"envelope\n")
    assert data == b"\x01\x05" + EPOCH.encode() + b" 7 18446744073709551615 0\nenvelope\n"


@given(st.integers(1, MAX_OFFSET), tags, tags | st.just(0), st.binary(max_size=50))
def test_it_is_read_back(offset: int, tag: int, previous: int, envelope: bytes) -> None:
    position = Position(EPOCH, offset, tag)
    assert kept.decode(kept.encode(position, previous, envelope)) == (position, previous, envelope)


@pytest.mark.parametrize(
    "place",
    [
        "",
        f"{EPOCH} 1 1",
        f"{EPOCH} 1 1 1",
        f"{EPOCH} 0 1 1\n",
        f"{EPOCH} 1 0 1\n",
        f"{EPOCH} 01 1 1\n",
        f"{EPOCH} {MAX_OFFSET + 1} 1 1\n",
        f"{EPOCH} 1 {2**64} 1\n",
        f"{EPOCH} 1 1 {2**64}\n",
        f"{EPOCH} 1 1 -1\n",
        f"{EPOCH.upper()} 1 1 1\n",
        f"{EPOCH[1:]} 1 1 1\n",
        f"{EPOCH}  1 1 1\n",
        f"{EPOCH} {'9' * 500} 1 1\n",
    ],
)
def test_what_has_no_place_is_malformed(place: str) -> None:
    with pytest.raises(MalformedEnvelope):
        kept.decode(kept.BEGINNING + place.encode() + b"envelope")


@given(st.binary(max_size=100))
def test_junk_is_malformed_or_exactly_what_it_says(data: bytes) -> None:
    for junk in (data, kept.BEGINNING + data):
        try:
            found = kept.decode(junk)
        except MalformedEnvelope:
            continue
        assert kept.encode(*found) == junk


def test_it_is_none_of_the_other_envelopes() -> None:
    data = kept.encode(Position(EPOCH, 1, 1), 0, b"")
    assert kept.is_kept(data)
    with pytest.raises(MalformedEnvelope):
        codec.decode(data + b"x" * 50)
