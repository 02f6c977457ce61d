"""A number that comes again is a repetition, unless another event has it."""

from __future__ import annotations

from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.core.recent_events import KEPT, RecentEvents

ANN, BOB = UserEvent("join", "ann", 7), UserEvent("join", "bob", 7)


def test_a_number_that_another_event_had_is_known_by_what_it_tells() -> None:
    recent = RecentEvents()
    assert not recent.is_another("tea", ANN), "nothing had it"
    recent.told("tea", ANN)
    assert not recent.is_another("tea", ANN)
    assert recent.is_another("tea", BOB)
    assert recent.is_another("tea", ANN._replace(kind="leave"))
    assert not recent.is_another("rum", BOB)
    recent.told("tea", BOB)
    assert not recent.is_another("tea", BOB)


def test_the_last_events_of_rooms_with_members_are_remembered() -> None:
    recent = RecentEvents()
    for version in range(1, 2 * KEPT):
        recent.told("tea", ANN._replace(version=version))
        recent.told("tea", ANN._replace(version=1))
    assert recent.is_another("tea", BOB._replace(version=1))
    assert recent.is_another("tea", BOB._replace(version=KEPT + 2))
    assert not recent.is_another("tea", BOB._replace(version=2)), "it was long ago"
    recent.told("rum", ANN)
    recent.left("tea")
    assert len(recent) == 1
    recent.forget()
    assert not recent
