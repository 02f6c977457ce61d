"""What is on its way to one worker: it has a limit, and those who wait go on in their order."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.in_flight import LEAST, MOST, TOTAL, InFlight, share
from fastapi_rooms.core.link import MESSAGE_BYTES

KIB = 1024
PIECE = 64 * KIB - MESSAGE_BYTES


def filled() -> tuple[InFlight, list[int]]:
    """One that is full, and the marks to send."""
    way = InFlight()
    marks = []
    while way.has_room:
        mark = way.sent(PIECE)
        if mark is not None:
            marks.append(mark)
    return way, marks


def test_there_is_a_limit_and_a_few_marks_tell_how_much_has_arrived() -> None:
    way, marks = filled()
    assert marks == [MOST // 2]
    assert way.arrived(marks[0], MOST) is None
    assert way.has_room
    assert [way.sent(PIECE) for _ in range(16)] == [MOST, *[None] * 15]
    assert not way.has_room


def test_those_who_wait_go_on_one_by_one_in_their_order() -> None:
    way, marks = filled()
    gone: list[str] = []
    names = "abcdefghijklmnopqrs"
    for name in names:
        way.wait(PIECE, lambda name=name: gone.append(name))  # type: ignore[misc]  # a default
    assert gone == []
    mark = way.arrived(marks[0], MOST)
    assert gone == list(names[:16]), "as many as there is room for"
    assert not way.has_room
    assert mark == MOST
    way.arrived(mark, MOST)
    assert gone == list(names)
    assert way.has_room


def test_nobody_goes_before_those_who_wait() -> None:
    way, marks = filled()
    turns: list[str] = []

    def goes_on_for_ever(name: str) -> None:
        turns.append(name)
        assert not way.has_room
        way.wait(PIECE, lambda: goes_on_for_ever(name))

    for name in "abc":
        way.wait(PIECE, lambda name=name: goes_on_for_ever(name))  # type: ignore[misc]  # a default
    way.arrived(marks[0], MOST)
    assert "".join(turns) == "abcabcabcabcabca"


def test_who_gives_up_is_not_called() -> None:
    way, marks = filled()
    gone: list[str] = []

    def one() -> None:
        gone.append("one")

    way.wait(1, one)
    way.wait(1, lambda: gone.append("two"))
    way.give_up(one)
    way.give_up(one)
    way.arrived(marks[0], MOST)
    assert gone == ["two"]


@pytest.mark.parametrize("mark", [0, MOST // 4, MOST * 2, 2**64 - 1])
def test_a_mark_that_cannot_be_or_comes_twice_changes_nothing(mark: int) -> None:
    way, marks = filled()
    way.arrived(marks[0], MOST)
    while way.has_room:
        way.sent(PIECE)
    assert way.arrived(mark, MOST) is None
    assert not way.has_room


def test_a_mark_that_was_lost_is_sent_once_more_while_somebody_waits() -> None:
    way, _ = filled()
    assert [way.overdue] == [None]
    gone: list[bool] = []
    way.wait(1, lambda: gone.append(True))
    assert way.overdue == MOST
    way.arrived(MOST, MOST)
    assert gone == [True]
    assert way.overdue is None


def test_each_has_its_share_of_what_may_be_on_its_way_to_a_worker() -> None:
    assert [share(senders) for senders in (0, 1, 3)] == [MOST] * 3
    assert share(6) == TOTAL // 6
    assert share(10_000) == LEAST


@pytest.mark.parametrize(("said", "limit"), [(LEAST, LEAST), (0, LEAST), (2**32 - 1, MOST)])
def test_the_other_side_says_the_limit_within_reason(said: int, limit: int) -> None:
    way = InFlight()
    for _ in range(9):
        way.sent(PIECE)
    assert way.sent(PIECE) is None
    way.arrived(MOST // 4, said)  # no mark of ours, but it could be
    on_the_way = 10 * (PIECE + MESSAGE_BYTES) - MOST // 4
    while way.has_room:
        way.sent(PIECE)
        on_the_way += PIECE + MESSAGE_BYTES
    assert on_the_way == limit


@given(
    st.lists(st.sampled_from(["send", "send", "arrive", "give up", "fewer", "more"]), max_size=200),
    st.integers(1, 400 * KIB),
)
def test_whoever_waits_goes_on_in_the_end_whatever_has_happened(acts: list[str], size: int) -> None:
    """Marks come back in their order, and none is lost."""
    way, marks, limit = InFlight(), deque[int](), MOST
    waiting: list[object] = []

    def note(mark: int | None) -> None:
        if mark is not None:
            marks.append(mark)

    def begin_to_wait() -> None:
        def go() -> None:
            waiting.remove(go)

        waiting.append(go)
        note(way.wait(size, go))

    for act in acts:
        if act == "send" and way.has_room:
            note(way.sent(size))
        elif act == "send":
            begin_to_wait()
        elif act == "arrive" and marks:
            note(way.arrived(marks.popleft(), limit))
        elif act == "give up" and waiting:
            way.give_up(waiting.pop())  # type: ignore[arg-type]  # they are what waits
        elif act in ("fewer", "more"):
            limit = LEAST if act == "fewer" else MOST
    while marks:
        note(way.arrived(marks.popleft(), limit))
    assert waiting == []
