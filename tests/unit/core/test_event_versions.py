"""Each event is told once, and in its place, by whichever way it comes first."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.event_versions import EventVersions


@pytest.fixture
def versions() -> EventVersions:
    versions = EventVersions()
    assert versions.heard("tea", 5)
    return versions


def _is_kept(room: str) -> bool:
    return room == "kept"


def test_what_was_heard_is_not_told_again(versions: EventVersions) -> None:
    assert not versions.heard("tea", 5)
    assert versions.answered("tea", [5]) == set()
    assert versions.heard("rum", 5)
    assert (versions.last("tea"), versions.last("gin")) == (5, 0)


def test_an_answer_tells_what_is_next_and_leaves_what_is_not_to_the_channel(
    versions: EventVersions,
) -> None:
    assert versions.answered("tea", [6, 7, 9]) == {6, 7}
    assert not versions.heard("tea", 7)
    assert versions.heard("tea", 8)
    assert versions.heard("tea", 9)


def test_an_answer_tells_what_came_before_the_first_that_was_heard(versions: EventVersions) -> None:
    assert versions.answered("tea", [3, 4]) == {3, 4}
    assert versions.answered("tea", [3]) == set()
    assert versions.answered("rum", [3]) == {3}, "it is the first"


def test_what_was_told_before_all_left_is_told_to_nobody_who_comes_after(
    versions: EventVersions,
) -> None:
    assert versions.left("tea")
    assert versions.last("tea") == 5
    assert not versions.heard("tea", 5)
    assert versions.answered("tea", [4, 5]) == set()
    assert versions.heard("tea", 8)
    assert versions.answered("tea", [4, 5, 6]) == {6}
    assert versions.left("tea")
    assert not versions.left("tea"), "nothing more is to be kept"
    assert versions.last("tea") == 8


def test_it_is_forgotten_after_two_turns_unless_it_is_still_wanted(
    versions: EventVersions,
) -> None:
    versions.heard("kept", 7)
    for room in ("tea", "kept"):
        versions.left(room)
    assert versions.turn(_is_kept)
    assert versions.last("tea") == 5
    assert versions.turn(_is_kept)
    assert (versions.last("tea"), versions.last("kept")) == (0, 7)
    assert not versions.turn(lambda _: False)
    assert not versions


def test_a_turn_does_not_touch_rooms_with_members(versions: EventVersions) -> None:
    for _ in range(2):
        assert not versions.turn(_is_kept)
    assert versions
    assert not versions.heard("tea", 5)


@pytest.mark.parametrize("turns", range(2))
@pytest.mark.parametrize("has_left", [False, True])
def test_a_version_that_was_forged_is_believed_no_more(
    versions: EventVersions, has_left: bool, turns: int
) -> None:
    versions.heard("tea", 2**53)
    if has_left:
        versions.left("tea")
    for _ in range(turns):
        versions.turn(_is_kept)
    versions.compared("tea", 6)
    versions.compared("rum", 6)
    assert (versions.last("tea"), versions.last("rum")) == (6, 0)
    assert versions.heard("tea", 7)


def test_it_can_be_forgotten_as_a_whole(versions: EventVersions) -> None:
    versions.heard("rum", 1)
    versions.left("rum")
    versions.forget()
    assert not versions
    assert (versions.last("tea"), versions.last("rum")) == (0, 0)
