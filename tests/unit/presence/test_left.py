"""Which rooms a worker knows to have left."""

from __future__ import annotations

import pytest

from fastapi_rooms.presence import left as module
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.left import KEPT, LeftRooms

START = 1000.0


def test_rooms_are_known_for_a_while_from_when_they_were_last_left() -> None:
    left = LeftRooms()
    for name, now in (("tea", START), ("rum", START), ("tea", START + KEPT / 2)):
        left.add(Name("/", name), now)
    assert {*left.names(START + KEPT / 2)} == {Name("/", "tea"), Name("/", "rum")}
    assert left.names(START + KEPT) == [Name("/", "tea")]
    assert left.names(START + 2 * KEPT) == []


def test_of_very_many_the_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LEFT", 3)
    left = LeftRooms()
    for number in range(10):
        left.add(Name("/", f"{number}"), START)
    assert [name.room for name in left.names(START)] == ["7", "8", "9"]
