"""What may be believed of what is read."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.adapters.redis.history.keys import keys_of
from fastapi_rooms.adapters.redis.history.reading import FIRST_PART, Reading, parse_top
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import MAX_BYTES, Kept, Stretch, after

EPOCH = "00000000000000ab"
META = [EPOCH.encode(), b"5", b"50"]


def entry(offset: int, tag: int | None = None) -> list[Any]:
    return [b"%d-%d" % (offset, offset * 10 if tag is None else tag), [b"d", b"m%d" % offset]]


SINCE = Position(EPOCH, 4, 40)


def read_at_once(meta: Any, entries: Any, since: Position | None = None) -> Stretch[bytes] | None:
    """What is read in one part: from the end back, or on from a position."""
    reading = Reading(keys_of(b"rooms", b"tea"), since)
    if since is None and isinstance(entries, list):
        entries = entries[::-1]
    reading.answered(meta, entries)
    return reading.stretch()


def offsets(*entries: Any) -> list[int]:
    """Of the messages that are read: the same ones, in whatever direction."""
    back, on = read_at_once(META, [*entries]), read_at_once(META, [*entries], SINCE)
    assert back is not None
    assert back.top == Position(EPOCH, 5, 50)
    assert back == on
    return [message.offset for message in back.messages]


def test_messages_that_lead_up_to_the_end_are_kept() -> None:
    expected = (Position(EPOCH, 5, 50), [Kept(4, 40, b"m4"), Kept(5, 50, b"m5")], None)
    for since in (None, SINCE):
        stretch = read_at_once(META, [entry(4), entry(5)], since)
        assert stretch is not None
        assert tuple(stretch) == expected


def test_the_first_of_a_stream_tells_what_it_follows() -> None:
    name, fields = entry(5)
    for since in (None, SINCE):
        stretch = read_at_once(META, [[name, [*fields, b"p", b"40"]]], since)
        assert stretch is not None
        assert stretch.before == 40
        assert after(stretch, SINCE) == [Kept(5, 50, b"m5")]
        assert after(stretch, SINCE._replace(tag=41)) is None


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
        [[b"5-50", [b"d", b"", b"p"]]],
        [[b"5-50", [b"d", b"", b"p", b"x"]]],
        [[b"5-50", [b"d", b"", b"p", b"%d" % 2**64]]],
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
    for since in (None, SINCE):
        stretch = read_at_once(META, entries, since)
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
    assert read_at_once(meta, [entry(5)]) is read_at_once(meta, [entry(5)], SINCE) is None


ANYTHING = st.recursive(
    st.none() | st.integers() | st.binary() | st.sampled_from([b"5-50", b"d", *META]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(), inner, max_size=2),
    max_leaves=12,
)


@given(ANYTHING | st.just(META), ANYTHING)
def test_whatever_comes_is_a_stretch_or_none(meta: Any, entries: Any) -> None:
    for since in (None, SINCE):
        stretch = read_at_once(meta, entries, since)
        if stretch is not None and stretch.messages:
            assert stretch.messages[-1].offset == stretch.top.offset
            assert stretch.messages[-1].tag == stretch.top.tag


# In parts.


class Stream:
    """A room's stream, which answers questions; tags are ten times the offsets."""

    def __init__(self, *lengths: int) -> None:
        self.tags = [10 * offset for offset in range(1, len(lengths) + 1)]
        self.lengths = [*lengths]
        self.dropped = 0
        self.parts: list[int] = []

    @property
    def top(self) -> Position:
        return Position(EPOCH, len(self.tags), self.tags[-1])

    def answer(self, question: bytes) -> tuple[Any, Any]:
        reader = hiredis.Reader()
        reader.feed(question)
        _, _, (command, _, start, _, _, count) = iter(reader.gets, False)
        offsets = range(self.dropped + 1, len(self.tags) + 1)
        if command == b"XREVRANGE":
            last = len(self.tags) if start == b"+" else int(start)
            found = [n for n in reversed(offsets) if n <= last]
        else:
            found = [n for n in offsets if n >= int(start)]
        found = found[: int(count)]
        self.parts.append(sum(self.lengths[n - 1] for n in found))
        entries = [self.entry(n) for n in found]
        return [EPOCH.encode(), b"%d" % self.top.offset, b"%d" % self.top.tag], entries

    def entry(self, offset: int) -> Any:
        name = b"%d-%d" % (offset, self.tags[offset - 1])
        return [name, [b"d", bytes(self.lengths[offset - 1])]]

    def position(self, offset: int) -> Position:
        return Position(EPOCH, offset, self.tags[offset - 1])


def read(stream: Stream, since: Position | None = None, then: Any = None) -> Stretch[bytes]:
    """Read in as many parts as it takes; `then` is done between the first and the second."""
    reading = Reading(keys_of(b"rooms", b"tea"), since)
    while reading.answered(*stream.answer(reading.question())):
        if then is not None and len(stream.parts) == 1:
            then()
    stretch = reading.stretch()
    assert stretch is not None
    return stretch


def numbers(stretch: Stretch[bytes]) -> list[int]:
    return [message.offset for message in stretch.messages]


@pytest.mark.parametrize("count", [FIRST_PART - 1, FIRST_PART, FIRST_PART + 1, 1000])
def test_short_messages_are_read_in_few_parts(count: int) -> None:
    stream = Stream(*[5] * count)
    assert numbers(read(stream)) == [*range(1, count + 1)]
    assert numbers(read(stream, stream.position(1))) == [*range(1, count + 1)]
    assert numbers(read(stream, stream.position(count))) == [count]
    assert len(stream.parts) <= 8


def test_a_long_message_among_short_ones_does_not_make_it_slow() -> None:
    stream = Stream(*[5] * 10, MAX_BYTES // 4, *[5] * 1000)
    assert len(read(stream, stream.position(2)).messages) == 1010
    assert len(stream.parts) <= 5


def test_what_is_too_much_is_read_up_to_the_limit() -> None:
    size = MAX_BYTES // 10
    stream = Stream(*[size] * 40)
    assert numbers(read(stream)) == [*range(32, 41)], "the last"
    stretch = read(stream, stream.position(3))
    assert numbers(stretch) == [*range(3, 13)], "the first, and the rest later"
    assert after(stretch, stream.position(3)) == stretch.messages[1:]
    assert numbers(read(stream, stream.position(38))) == [38, 39, 40]
    assert max(stream.parts[1:]) <= FIRST_PART * size


def test_messages_that_are_longer_than_the_limit_are_read_one_by_one() -> None:
    stream = Stream(*[MAX_BYTES + 1] * 3)
    assert numbers(read(stream)) == [3]
    assert numbers(read(stream, stream.position(1))) == [1, 2]


def test_a_position_that_is_no_place_is_not_read_on_from() -> None:
    stream = Stream(*[5] * 1000)
    stream.dropped = 500
    for since in (stream.position(400), stream.position(600)._replace(tag=7)):
        assert numbers(read(stream, since)) == []
    assert len(stream.parts) == 2


def test_a_replica_that_takes_over_between_two_parts_is_not_mixed_in() -> None:
    for since in (None, 1):
        for lost in (1, 990):  # where the next part begins, or not
            stream = Stream(*[5] * 1000)
            true = [*stream.tags]

            def take_over(stream: Stream = stream, lost: int = lost) -> None:
                stream.tags[-lost:] = [tag + 1 for tag in stream.tags[-lost:]]

            stretch = read(stream, None if since is None else stream.position(since), take_over)
            found = numbers(stretch)
            if stretch.top.tag == true[-1]:
                assert [m.tag for m in stretch.messages] == [true[n - 1] for n in found]
            else:
                assert [m.tag for m in stretch.messages] == [stream.tags[n - 1] for n in found]


def test_a_room_that_is_cleared_between_two_parts_has_what_was_read() -> None:
    for since in (None, 1):
        stream = Stream(*[5] * 1000)

        def clear(stream: Stream = stream) -> None:
            stream.dropped = 1000

        found = numbers(read(stream, None if since is None else stream.position(since), clear))
        assert found == ([*range(985, 1001)] if since is None else [*range(1, 17)])


def test_a_batch_that_comes_between_the_end_and_the_messages_is_left_out() -> None:
    stream, reading = Stream(*[5] * 200), Reading(keys_of(b"rooms", b"tea"))
    meta = [EPOCH.encode(), b"100", b"1000"]
    while reading.answered(meta, stream.answer(reading.question())[1]):
        continue
    stretch = reading.stretch()
    assert stretch is not None
    assert numbers(stretch) == [*range(1, 101)]
