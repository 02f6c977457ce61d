"""That somebody came or went, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.presence import MAX_VERSION, UserEvent
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import codec, kept, presence

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
namespaces = names.map(lambda name: "/" + name.replace("#", ""))


def test_its_bytes_are_these() -> None:
    data = presence.encode("/#café".encode(), UserEvent("join", "Zoë\n", 7))
    assert data == b"\x01\x06join 7 7 5\n/#caf\xc3\xa9Zo\xc3\xab\n"


@given(namespaces, names, st.sampled_from(["join", "leave"]), names, st.integers(1, MAX_VERSION))
def test_it_is_read_back(namespace: str, room: str, kind: str, user: str, version: int) -> None:
    event = UserEvent("join" if kind == "join" else "leave", user, version)
    data = presence.encode(f"{namespace}#{room}".encode(), event)
    assert presence.decode(data) == (namespace, room, event)
    assert presence.is_event(data)
    assert not kept.is_kept(data)


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"join 1 3 1",
        b"join 1 3 1\n",
        b"join 1 3 1\n/#a",
        b"join 1 3 1\n/#abc",
        b"Join 1 3 1\n/#ab",
        b"join 0 3 1\n/#ab",
        b"join 01 3 1\n/#ab",
        b"join -1 3 1\n/#ab",
        b"join %d 3 1\n/#ab" % (MAX_VERSION + 1),
        b"join 1 3 0\n/#a",
        b"join 1 2 1\n/#b",
        b"join 1 2 1\n#ab",
        b"join 1 3 1\n/aab",
        b"join 1 3 1\na#ab",
        b"join 1 3 1\n/#\xffb",
        b"join 1 3 1\n/#a\xff",
        b"join 1 3 256\n/#a" + b"x" * 256,
        b"join 1 258 1\n/#" + b"x" * 256 + b"b",
        b"join 1 259 1\n/" + b"x" * 256 + b"#ab",
        b"join 1 3 1 \n/#ab",
        b"join 1 1000 1\n/#" + b"x" * 999,
    ],
)
def test_what_cannot_be_is_refused(rest: bytes) -> None:
    with pytest.raises(MalformedEnvelope):
        presence.decode(presence.BEGINNING + rest)


def test_it_is_no_envelope_for_those_who_do_not_know_it() -> None:
    data = presence.encode(b"/#tea", UserEvent("leave", "ann", 1))
    with pytest.raises(MalformedEnvelope):
        codec.decode(data)
    with pytest.raises(MalformedEnvelope):
        kept.decode(data)
