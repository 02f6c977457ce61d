from __future__ import annotations

import pytest

from fastapi_rooms.core import resumption
from fastapi_rooms.core.resumption import Resumption


def test_a_message_is_handled_when_the_next_is_asked_for() -> None:
    kept: Resumption[str] = Resumption()
    kept.put("one", "tea", "1")
    kept.put("two", "tea", "2")
    assert kept.received == {"tea": "2"}
    assert kept.take() == "one"
    assert kept.handled == {}
    assert kept.take() == "two"
    assert kept.handled == {"tea": "1"}
    assert kept.take() is None
    assert kept.handled == {"tea": "2"}


def test_what_is_finished_needs_nobody_to_ask_for_more() -> None:
    kept: Resumption[str] = Resumption()
    kept.put("one", "tea", "1")
    kept.finish()
    kept.take()
    assert kept.handled == {}
    kept.finish()
    assert kept.handled == {"tea": "1"}


def test_a_message_that_comes_twice_is_there_once() -> None:
    kept: Resumption[str] = Resumption()
    assert kept.put("one", "tea", "1")
    assert not kept.put("one", "tea", "1")
    assert kept.put("one", "bar", "1"), "positions are a room's own"
    assert kept.put("plain")
    assert kept.put("plain"), "what has no place may be said twice"
    assert [kept.take() for _ in range(5)] == ["one", "one", "plain", "plain", None]


def test_what_was_left_may_be_shown_once_more() -> None:
    kept: Resumption[str] = Resumption()
    kept.put("one", "tea", "1")
    kept.put("one", "bar", "1")
    kept.left("tea")
    assert kept.put("one", "tea", "1")
    assert not kept.put("one", "bar", "1")


def test_a_position_for_others_messages_holds_once_those_before_are_handled() -> None:
    kept: Resumption[str] = Resumption()
    kept.moved("tea", "1")
    assert kept.handled == kept.received == {"tea": "1"}
    kept.put("two", "tea", "2")
    kept.moved("tea", "3")
    assert (kept.handled, kept.received) == ({"tea": "1"}, {"tea": "3"})
    assert kept.take() == "two"
    kept.moved("tea", "4")
    assert kept.handled == {"tea": "1"}
    assert kept.take() is None
    assert kept.handled == {"tea": "4"}


def test_a_room_that_is_left_in_the_middle_has_no_position_in_the_end() -> None:
    kept: Resumption[str] = Resumption({"tea": "1"})
    kept.put("two", "tea", "2")
    kept.left("tea")
    assert kept.received == {}
    assert kept.handled == {"tea": "1"}
    kept.take()
    kept.take()
    assert kept.handled == {}


@pytest.mark.parametrize(
    ("had", "recovered", "told", "has"),
    [
        (True, True, True, True),
        (True, False, False, False),
        (True, None, False, False),
        (False, True, True, False),
        (False, False, False, False),
        (False, None, None, False),
    ],
)
def test_what_a_join_means(had: bool, recovered: bool | None, told: bool | None, has: bool) -> None:
    kept: Resumption[str] = Resumption({"tea": "1"} if had else {})
    assert kept.joined("tea", recovered) is told
    assert ("tea" in kept.received) is has


def test_a_server_cannot_make_it_keep_more_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumption, "MAX_ROOMS", 3)
    monkeypatch.setattr(resumption, "MAX_KNOWN", 3)
    kept: Resumption[str] = Resumption()
    kept.put("first")
    kept.take()
    for number in range(9):
        kept.moved(f"{number}", "1")
    kept.moved("6", "2")
    assert kept.received == {"7": "1", "8": "1", "6": "2"}
    kept.take()
    assert [*kept.handled] == ["7", "8", "6"]
    for number in range(4):
        kept.put("x", "tea", f"{number}")
    assert not kept.put("x", "tea", "3")
    assert kept.put("x", "tea", "0"), "that is too long ago"
