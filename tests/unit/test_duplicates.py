"""What has been seen already: by origin and rising sequence."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.duplicates import MAX_ORIGINS, Duplicates


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


def test_the_origin_longest_silent_is_forgotten_first() -> None:
    seen = Duplicates()
    for n in range(MAX_ORIGINS):
        assert seen.is_new(f"origin {n}", 7)
    assert not seen.is_new("origin 0", 7)  # heard again: now origin 1 is the longest silent
    assert seen.is_new("one too many", 7)
    assert seen.is_new("origin 1", 7)
    assert not seen.is_new("origin 0", 7)
    assert not seen.is_new("one too many", 7)
