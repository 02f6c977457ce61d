"""Patterns of rooms, of which the longest match counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.names import new_node_id, new_sid
from fastapi_rooms.core.patterns import Patterns

names = st.text("ab-", min_size=1, max_size=5)
patterns = names | names.map(lambda name: name + "*") | st.just("*")


def _declared(*declared: str) -> Patterns[str]:
    found: Patterns[str] = Patterns()
    for pattern in declared:
        found.declare(pattern, pattern)
    return found


def test_a_name_comes_before_a_beginning_and_a_longer_one_before_a_shorter() -> None:
    patterns = _declared("*", "chat-*", "chat-tea*", "chat-tea")
    assert [patterns.find(room) for room in ("chat-tea", "chat-teapot", "chat-", "chat", "x")] == [
        "chat-tea",
        "chat-tea*",
        "chat-*",
        "*",
        "*",
    ]


@given(st.lists(patterns, max_size=6), names)
def test_it_is_the_longest_of_those_that_match(declared: list[str], room: str) -> None:
    def matches(pattern: str) -> bool:
        return room.startswith(pattern[:-1]) if pattern.endswith("*") else room == pattern

    found = _declared(*declared).find(room)
    matching = [pattern for pattern in declared if matches(pattern)]
    assert (found is None) is (not matching)
    if found is not None:
        assert matches(found)
        assert len(found.rstrip("*")) == max(len(p.rstrip("*")) for p in matching)


def test_a_generated_sid_matches_nothing() -> None:
    assert _declared("*").find(new_sid(new_node_id())) is None


def test_what_is_declared_last_for_a_pattern_counts() -> None:
    patterns: Patterns[int] = Patterns()
    assert not patterns
    patterns.declare("a*", 1)
    patterns.declare("a*", 2)
    assert patterns
    assert list(patterns) == ["a*"]
    assert patterns.find("abc") == 2


def test_of_two_that_have_the_same_pattern_the_upper_one_counts() -> None:
    own, others = Patterns[int](), Patterns[int]()
    own.declare("a*", 1)
    others.declare("a*", 2)
    others.declare("ab*", 3)
    both = own.over(others)
    assert [both.find(room) for room in ("a", "ab", "b")] == [1, 3, None]
    assert [own.find("ab"), others.find("a")] == [1, 2], "they are as they were"


def test_what_is_gone_is_kept_for_rooms_that_would_have_nothing() -> None:
    earlier, now = _declared("a*", "ab", "b*", "c*"), _declared("b")
    now.keep(earlier, ["ab", "b", "bc", "x"])
    assert sorted(now) == ["ab", "b", "b*"]
    now.keep(_declared("b"), ["c"])
    assert sorted(now) == ["ab", "b", "b*"]
