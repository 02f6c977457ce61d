"""What a namespace makes of the events of presence, forged ones among them."""

from __future__ import annotations

import pytest

from fastapi_rooms import ConfigurationError, PresenceEvent, RoomManager
from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter


async def test_a_forged_version_silences_true_events_until_the_room_is_compared() -> None:
    rooms = RoomManager()
    presence = rooms.presence("tea")
    told: list[str] = []

    @presence.on("join")
    def join(event: PresenceEvent) -> None:
        told.append(event.user)

    async with rooms, Member(rooms, "tea"):
        presences = rooms._here.presences
        told.clear()
        true = (await presence.users("tea")).version
        presences.received("tea", UserEvent("join", "eve", 2**53))
        presences.received("tea", UserEvent("join", "ann", true + 1))
        assert told == ["eve"]
        presences.compared("tea", true)
        presences.received("tea", UserEvent("join", "ann", true + 1))
        presences.received("tea", UserEvent("join", "ann", true + 1))
        assert told == ["eve", "ann"]


async def test_nobody_is_told_of_rooms_without_members_here() -> None:
    rooms = RoomManager()
    presence = rooms.presence("tea")
    told: list[str] = []
    presence.on("join")(lambda event: told.append(event.user))
    async with rooms:
        rooms._here.presences.received("tea", UserEvent("join", "ann", 1))
        rooms._here.presences.received("plain", UserEvent("join", "ann", 1))
    assert told == []


def test_an_event_that_does_not_exist_is_refused() -> None:
    presence = RoomManager().presence("tea")
    with pytest.raises(ConfigurationError, match="no event 'come'"):
        presence.on("come")  # type: ignore[arg-type]


@pytest.mark.parametrize("user", ["", 5], ids=["empty", "no text"])
def test_who_a_socket_is_is_a_key_or_a_function(user: object) -> None:
    with pytest.raises(ConfigurationError, match="a key of socket"):
        RoomManager().presence("tea", user=user)  # type: ignore[arg-type]


async def test_it_is_declared_before_the_start() -> None:
    async with RoomManager() as rooms:
        with pytest.raises(ConfigurationError, match="before the manager starts"):
            rooms.presence("tea")


async def test_an_adapter_that_cannot_know_it_is_refused_at_the_start() -> None:
    rooms = RoomManager(FakeAdapter())
    rooms.presence("tea")
    with pytest.raises(ConfigurationError, match="FakeAdapter does not"):
        await rooms.start()
