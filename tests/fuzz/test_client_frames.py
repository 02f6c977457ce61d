"""Whatever a server sends to a client: something well formed, or nothing."""

from __future__ import annotations

from math import isfinite

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.names import check_room
from fastapi_rooms.wire.client_frames import Content, Hello, Joined, Left, Moved, parse, parse_hello
from tests.fuzz.test_client_framing import anything

said = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1) | anything,
        "token": anything,
        "heartbeat": anything,
        "window": anything,
        "room": st.text(max_size=300) | anything,
        "position": st.text(max_size=70) | anything,
        "recovered": anything,
    },
)
kinds = st.sampled_from("hjmplb.rx")
texts = st.one_of(
    st.text(st.characters()),
    st.builds("\0{}{}".format, kinds, st.text(st.characters())),
    st.builds(
        lambda kind, value, rest: f"\0{kind}{orjson.dumps(value).decode()}\n{rest}",
        kinds,
        said | anything,
        st.text(),
    ),
    st.builds(lambda kind, value: f"\0{kind}{orjson.dumps(value).decode()}", kinds, said),
)
frames = texts | st.binary() | texts.map(lambda text: text.encode(errors="replace"))


@given(frames)
def test_a_frame_is_nothing_or_well_formed(frame: str | bytes) -> None:
    read = parse(frame)
    if isinstance(read, Content):
        assert isinstance(read.data, type(frame))
        assert (read.room is None) is (read.position is None)
    if isinstance(read, Joined | Left | Moved | Content) and read.room is not None:
        assert check_room(read.room) == read.room
    if isinstance(read, Moved | Content) and read.position is not None:
        assert 0 < len(read.position) <= 60
    if isinstance(read, Joined):
        assert read.recovered in (True, False, None)


@given(frames)
def test_a_hello_is_nothing_or_can_be_gone_by(frame: str | bytes) -> None:
    hello = parse_hello(frame)
    if isinstance(hello, Hello):
        assert isfinite(hello.heartbeat)
        assert hello.heartbeat > 0
        assert 0 <= hello.window <= 600
        assert hello.token is None or len(hello.token) <= 64
