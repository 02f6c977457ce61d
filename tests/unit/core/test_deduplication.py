"""What has been received already: by origin and number, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from fastapi_rooms.core.deduplication import FIRM, MAX_PAGES, PAGE, Duplicates

WINDOW = PAGE * MAX_PAGES


def new(seen: Duplicates, numbers: Sequence[int], origin: str = "a") -> list[int]:
    """Those of the numbers that are new."""
    return [number for number in numbers if seen.is_new(origin, number)]


def test_what_comes_again_is_not_new_and_counted() -> None:
    seen = Duplicates()
    assert new(seen, (1, 2, 2, 1, 3, 3)) == [1, 2, 3]
    assert seen.count == 3


def test_origins_count_apart() -> None:
    seen = Duplicates()
    assert seen.is_new("a", 5)
    assert seen.is_new("b", 5)
    assert not seen.is_new("a", 5)


@given(st.lists(st.one_of(st.integers(0, 20), st.integers(0, 2**64 - 1))))
def test_each_number_is_new_once_in_whatever_order_they_come(numbers: list[int]) -> None:
    far_apart = len({number // PAGE for number in numbers})
    if far_apart <= MAX_PAGES:
        assert new(Duplicates(), numbers) == list(dict.fromkeys(numbers))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 3 * PAGE))
def test_a_forged_number_costs_at_most_the_message_with_that_number(
    forged: int, start: int, count: int
) -> None:
    seen = Duplicates()
    honest = range(start, start + count)
    half = count // 2
    assert new(seen, honest[:half]) == list(honest[:half])
    seen.is_new("a", forged)
    assert new(seen, honest[half:]) == [n for n in honest[half:] if n != forged]


FAR = 2**30
"""Farther than an origin gets in the time in which it sends anything again."""


@example(PAGE - 1, 1, [2**60 + n * PAGE for n in range(32)])
@given(
    st.builds(lambda page, at: page * PAGE + at, st.integers(1, 2**28), st.integers(-40, 40)),
    st.integers(1, 5 * PAGE),
    st.lists(st.integers(FAR, 2**63).map(lambda far: far + 2**41), min_size=32, max_size=200),
)
def test_forged_numbers_far_away_drive_out_none_that_came(
    start: int, count: int, forged: list[int]
) -> None:
    seen = Duplicates()
    honest = range(start, start + count)
    assert new(seen, honest) == list(honest)
    new(seen, forged)
    assert new(seen, honest) == []
    onward = range(start + count, start + 2 * count)
    assert new(seen, onward) == list(onward)
    new(seen, forged)
    assert new(seen, onward) == []
    assert len(seen._origins["a"]) <= MAX_PAGES


def test_a_page_ahead_can_be_forged_in_vain() -> None:
    seen = Duplicates()
    new(seen, range(10))
    new(seen, range(PAGE, MAX_PAGES * 2 * PAGE, PAGE))  # as if it had sent much that is not for us
    assert new(seen, range(10)) == []


def test_where_somebody_forges_numbers_an_origin_is_remembered_for_one_page_less() -> None:
    seen = Duplicates()
    new(seen, range(WINDOW))
    for number in range(100):
        assert seen.is_new("a", FAR + number * PAGE)
    assert new(seen, range(PAGE, WINDOW)) == []


def test_an_origin_that_is_far_ahead_after_an_outage_is_remembered_like_before() -> None:
    seen = Duplicates()
    new(seen, range(2 * PAGE))
    new(seen, range(FAR, FAR + 2 * PAGE))
    new(seen, range(2 * FAR, 2 * FAR + 200 * PAGE, PAGE))
    assert new(seen, range(FAR, FAR + 2 * PAGE)) == []


def test_numbers_that_drive_out_others_have_to_be_many() -> None:
    seen = Duplicates()
    new(seen, range(PAGE))
    for page in range(1, MAX_PAGES):
        new(seen, range(page * FAR, page * FAR + FIRM))
    assert new(seen, range(PAGE)) == []
    new(seen, range(MAX_PAGES * FAR, MAX_PAGES * FAR + FIRM))
    assert len(new(seen, range(PAGE))) == PAGE


def test_nothing_is_left_of_an_origin_that_is_forgotten() -> None:
    seen = Duplicates(1)
    for origin in "abc":
        new(seen, (1, FAR), origin)
    assert list(seen._loose) == ["c"]
    always = Duplicates(1, is_kept=lambda _: True)
    for origin in "abc":
        new(always, (1, FAR), origin)
    assert list(always._loose) == ["c"]


def test_what_a_publisher_sends_again_after_a_lost_connection_is_not_new() -> None:
    seen = Duplicates()
    assert len(new(seen, range(WINDOW))) == WINDOW
    again = range(WINDOW // 2, WINDOW + 10)  # from the oldest without a reply on, then the next
    assert new(seen, again) == list(range(WINDOW, WINDOW + 10))


def test_numbers_that_are_far_apart_cost_no_more_memory() -> None:
    seen = Duplicates()
    assert len(new(seen, range(0, 10 * MAX_PAGES * PAGE, PAGE))) == 10 * MAX_PAGES
    assert len(seen._origins["a"]) == MAX_PAGES


def test_the_origin_that_came_first_is_forgotten_first() -> None:
    seen = Duplicates(3)
    for origin in "abcd":
        assert seen.is_new(origin, 7)
    assert len(seen._origins) == 3
    assert not seen.is_new("b", 7)
    assert seen.is_new("a", 7)


def test_invented_origins_do_not_drive_out_those_that_are_known_to_live() -> None:
    seen = Duplicates(10, is_kept={"honest", "other"}.__contains__)
    assert seen.is_new("honest", 1)
    for number in range(1000):
        assert seen.is_new(f"invented {number}", 1)
    assert seen.is_new("other", 1)
    for number in range(1000):
        assert seen.is_new(f"invented {number}", 2)
    assert not seen.is_new("honest", 1)
    assert not seen.is_new("other", 1)
    assert len(seen._origins) == 10


def test_the_limit_holds_even_if_all_are_to_be_kept() -> None:
    seen = Duplicates(3, is_kept=lambda _: True)
    for origin in "abcdef":
        assert seen.is_new(origin, 7)
    assert len(seen._origins) == 3


def test_numbers_that_an_origin_cannot_have_given_in_this_order_are_doubted() -> None:
    doubted: list[str] = []
    seen = Duplicates(on_doubt=doubted.append)
    new(seen, range(5 * PAGE))
    new(seen, range(2**40, 2**40 + PAGE))  # it may have sent much that is not for this worker
    new(seen, range(4 * PAGE, 5 * PAGE))  # what it sends again
    assert not doubted
    assert new(seen, range(5 * PAGE, 5 * PAGE + 2)) == [5 * PAGE, 5 * PAGE + 1]
    assert doubted == ["a"]
