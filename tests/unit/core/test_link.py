"""Sequence and flow control of a virtual connection: nothing is missed, doubled or unbounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core import link
from fastapi_rooms.core.link import MESSAGE_BYTES, Link


def test_frames_follow_each_other_by_their_numbers() -> None:
    sender: Link[str] = Link()
    receiver: Link[str] = Link()
    assert [receiver.follows(sender.number()) for _ in range(3)] == [True] * 3
    assert not receiver.follows(3), "it came twice"
    sender.number()
    assert not receiver.follows(sender.number()), "one is missing"


def test_numbers_and_counts_begin_anew_when_they_are_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "COUNT", 8)
    sender: Link[int] = Link()
    receiver: Link[int] = Link()
    for message in range(50):
        number = sender.number()
        assert 0 < number < 8
        assert receiver.follows(number)
        sender.sent(message, 1)
        assert sender.not_taken(receiver.taken) == [message]
        receiver.took(1)
        assert 0 <= receiver.taken < 8
        assert sender.not_taken(receiver.taken) == []
        credit = receiver.credit()
        assert credit is not None
        assert sender.credited(*credit)


@given(st.lists(st.integers(0, 400), max_size=40))
def test_the_window_bounds_what_is_under_way_and_is_given_back(sizes: list[int]) -> None:
    window = 1000
    sender: Link[int] = Link(window)
    receiver: Link[int] = Link(window)
    waiting: list[int] = []
    for size in sizes:
        while not sender.may_send:
            credit = receiver.took(waiting.pop(0))
            if credit is not None:
                assert sender.credited(*credit)
        sender.sent(size, size)
        assert receiver.came(size)
        waiting.append(size)
        assert sum(waiting) <= window + 400
    while waiting:
        receiver.took(waiting.pop(0))
    credit = receiver.credit()
    if credit is not None:
        receiver.credit()


def test_what_comes_without_room_for_it_is_found_out() -> None:
    receiver: Link[None] = Link(100)
    assert receiver.came(200)
    assert not receiver.came(0)


def test_a_credit_that_cannot_be_is_found_out() -> None:
    sender: Link[str] = Link()
    sender.sent("a", 10)
    assert not sender.credited(10 + MESSAGE_BYTES, 2)
    assert not sender.credited(1, 1)


def test_what_was_not_taken_is_known_by_the_number_of_those_that_were() -> None:
    sender: Link[str] = Link()
    for text in "abcde":
        sender.sent(text, 1)
    assert sender.credited(2 * (1 + MESSAGE_BYTES), 2)
    assert sender.unacknowledged == 3
    assert sender.not_taken(3) == ["d", "e"]
    assert sender.not_taken(5) == []
    assert sender.not_taken(1) is None
    assert sender.not_taken(6) is None


def test_the_parts_of_a_message_have_their_room_and_are_one_message() -> None:
    sender: Link[str] = Link(1000)
    receiver: Link[str] = Link(1000)
    sender.sent("short", 100)
    sender.sent_part(500)
    sender.sent_part(500)
    assert [sender.may_send] == [False]
    assert all(receiver.came(size) for size in (100, 500, 500))
    assert sender.unacknowledged == 1
    assert receiver.took(100) is None
    credit = receiver.took_part(500)
    assert credit == (600 + 2 * MESSAGE_BYTES, 2)
    assert sender.credited(*credit)
    assert [sender.may_send] == [True]
    assert (sender.unacknowledged, receiver.taken) == (0, 1)
    sender.sent("long", 10)
    assert receiver.came(10)
    assert receiver.took_part(500) == (500 + MESSAGE_BYTES, 1)
    assert sender.credited(500 + MESSAGE_BYTES, 1)
    assert sender.unacknowledged == 1
    assert sender.not_taken(receiver.taken) == ["long"]
    receiver.took(10)
    assert sender.not_taken(receiver.taken) == []
    credit = receiver.credit()
    assert credit is not None
    assert sender.credited(*credit)
    assert sender.unacknowledged == 0


def test_only_what_was_sent_to_its_end_can_be_withdrawn() -> None:
    sender: Link[str] = Link(200)
    sender.sent("one", 10)
    sender.sent("two", 100)
    sender.sent_part(10)
    assert [sender.may_send] == [False]
    assert sender.withdraw("two")
    assert [sender.may_send] == [True]
    assert sender.not_taken(0) == ["one"]
    assert not sender.withdraw("two")
    assert sender.unacknowledged == 1
