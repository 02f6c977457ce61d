"""What has been seen already: by origin and rising sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.deduplication import MAX_SOURCES, WINDOW, Duplicates


def test_what_comes_again_is_not_new() -> None:
    seen = Duplicates()
    assert [seen.is_new("a", n) for n in (1, 2, 2, 1, 3, 3)] == [
        True, True, False, False, True, False,
    ]  # fmt: skip


def test_origins_count_apart() -> None:
    seen = Duplicates()
    assert seen.is_new("a", 5)
    assert seen.is_new("b", 1)
    assert not seen.is_new("a", 5)


@given(st.lists(st.integers(0, 20)))
def test_whatever_is_sent_again_each_is_new_at_most_once(sequences: list[int]) -> None:
    seen = Duplicates()
    accepted = [n for n in sequences if seen.is_new("a", n)]
    assert accepted == sorted(set(accepted))


def test_the_source_longest_silent_is_forgotten_first() -> None:
    seen = Duplicates()
    for n in range(MAX_SOURCES):
        assert seen.is_new(f"origin {n}", 7)
    assert not seen.is_new("origin 0", 7)  # heard again: now origin 1 is the longest silent
    assert seen.is_new("one too many", 7)
    assert seen.is_new("origin 1", 7)
    assert not seen.is_new("origin 0", 7)
    assert not seen.is_new("one too many", 7)


def test_a_limit_of_ones_own_is_kept() -> None:
    seen = Duplicates(2)
    assert all(seen.is_new(("a", shard), 7) for shard in range(3))
    assert seen.is_new(("a", 0), 7)  # forgotten
    assert not seen.is_new(("a", 2), 7)


def test_shards_of_one_origin_count_apart() -> None:
    seen = Duplicates()
    assert seen.is_new(("a", 1), 5)
    assert seen.is_new(("a", 2), 4)
    assert not seen.is_new(("a", 1), 4)


def test_what_is_sent_again_within_the_window_is_not_new() -> None:
    seen = Duplicates()
    assert seen.is_new("a", WINDOW + 1)
    assert not seen.is_new("a", 1)


def test_a_forged_sequence_does_not_silence_its_origin() -> None:
    seen = Duplicates()
    assert seen.is_new("a", 10)
    assert seen.is_new("a", 2**64 - 1)
    assert [seen.is_new("a", n) for n in (11, 11, 12)] == [True, False, True]
