"""Which messages are confirmed, in whatever order the broker says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.adapters.rabbitmq.links.frames import Confirmed, ProtocolError
from fastapi_rooms.adapters.rabbitmq.pubsub.confirms import Confirms


def one(tag: int, *, accepted: bool = True) -> Confirmed:
    return Confirmed(1, tag, multiple=False, accepted=accepted)


def upto(tag: int, *, accepted: bool = True) -> Confirmed:
    return Confirmed(1, tag, multiple=True, accepted=accepted)


def test_what_is_confirmed_early_waits_for_those_before_it() -> None:
    confirms = Confirms(last=1)
    assert confirms.confirmed(one(3), 3) == []
    assert confirms.confirmed(one(2, accepted=False), 3) == [False, True]
    assert confirms.confirmed(one(4), 1) == [True]


def test_all_up_to_one_are_confirmed_as_they_were_said_to_be() -> None:
    confirms = Confirms()
    assert confirms.confirmed(one(2, accepted=False), 4) == []
    assert confirms.confirmed(upto(3), 4) == [True, False, True]
    assert confirms.confirmed(upto(3), 1) == []
    assert confirms.confirmed(upto(0), 1) == [True]


@pytest.mark.parametrize("event", [one(0), one(1), one(5), upto(5), upto(1)])
def test_what_was_never_published_cannot_be_confirmed(event: Confirmed) -> None:
    with pytest.raises(ProtocolError, match="not published"):
        Confirms(last=2).confirmed(event, 2)


@given(st.permutations(range(1, 20)), st.integers(1, 19))
def test_everything_is_answered_once_in_order(order: list[int], together: int) -> None:
    confirms, unanswered, answers = Confirms(), 19, []
    for tag in order:
        if tag <= 19 - unanswered:
            continue
        event = upto(tag) if tag == together else one(tag)
        now = confirms.confirmed(event, unanswered)
        unanswered -= len(now)
        answers += now
    assert answers == [True] * 19
