"""Modules that declare the same share it; one that declares otherwise is told so."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import ConfigurationError, PresenceEvent, RoomManager, Socket
from fastapi_rooms.testing import Member, eventually


def _name_of(socket: Socket) -> str:
    return str(socket.data["name"])


def _other_name_of(socket: Socket) -> str:
    return str(socket.data["other"])


async def test_handlers_of_all_declarations_are_told_and_each_of_them_answers() -> None:
    rooms = RoomManager()
    told: list[str] = []
    declared = [rooms.presence("chat-*", user=_name_of, grace=grace) for grace in (1, 1.0)]
    declared.append(rooms.clone().presence("chat-*", user=_name_of, grace=1))
    for number, presence in enumerate(declared):

        @presence.on("join")
        def tell(event: PresenceEvent, number: int = number) -> None:
            told.append(f"{event.user} {number}")

    async with rooms, Member(rooms, "chat-tea", data={"name": "ann"}):
        await eventually(lambda: len(told) >= 3)
        assert told == ["ann 0", "ann 1", "ann 2"]
        for presence in declared:
            assert await presence.of(rooms).rooms("ann") == {"chat-tea"}
            assert await presence.of(rooms).count("chat-tea") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"user": "name"}, {"user": "id"}),
        ({"user": "name"}, {}),
        ({"user": _name_of}, {"user": _other_name_of}),
        ({"grace": 10}, {"grace": 0}),
    ],
    ids=["key", "sid", "function", "grace"],
)
async def test_who_is_present_is_declared_in_one_way(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    rooms = RoomManager()
    presence = rooms.presence("chat-*", **first)
    with pytest.raises(ConfigurationError, match=r"presence\('chat-\*'\) is declared already, wit"):
        rooms.presence("chat-*", **second)
    rooms.presence("chat-tea", **second)
    rooms.of("/other").presence("chat-*", **second)
    assert rooms._here.presences.rule_of("chat-rum") is presence._rule, "it counts as before"


@pytest.mark.parametrize("second", [{"size": 7}, {"ttl": 7}])
async def test_what_is_kept_is_declared_in_one_way(second: dict[str, Any]) -> None:
    rooms = RoomManager()
    rooms.history("chat-*", size=5)
    rooms.history("chat-*", size=5, ttl=300)
    with pytest.raises(ConfigurationError, match="with size=5 and ttl=300, and cannot be with"):
        rooms.history("chat-*", **{"size": 5, **second})
    rooms.history("chat-tea", **second)
    rooms.of("/other").history("chat-*", **second)


def test_the_error_says_what_was_declared_and_what_to_do() -> None:
    rooms = RoomManager()
    rooms.presence("tea", user="name", grace=2.5)
    with pytest.raises(ConfigurationError) as caught:
        rooms.presence("tea", grace=0)
    assert str(caught.value) == (
        "presence('tea') is declared already, with user='name' and grace=2.5, and cannot be with "
        "user=None and grace=0 as well. Declare it in one place, or the same in each. A longer "
        "pattern can be declared for some of the rooms."
    )
