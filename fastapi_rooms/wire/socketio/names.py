"""Names of rooms: strings here, and strings or numbers there.

To a Node server the room `42` and the room `"42"` are two. One that is named by digits here stands
for both: it is sent as both, and what comes for either is for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import InvalidRoomName, MalformedEnvelope
from fastapi_rooms.types import Room

MAX_NAMES = 65_535
"""How many rooms one message may name."""

_SAFE_DIGITS = 15
"""Digits of a number that JavaScript has exactly."""


def as_sent(names: Iterable[Room]) -> list[str | int]:
    """Names as Node servers look for them: those of digits as numbers, too."""
    sent: list[str | int] = []
    for name in names:
        sent.append(name)
        if _is_number(name):
            sent.append(int(name))
    return sent


def _is_number(name: str) -> bool:
    """Whether JavaScript would print a number just so."""
    digits = name.removeprefix("-") if name != "-0" else ""
    return (
        0 < len(digits) <= _SAFE_DIGITS
        and digits.isascii()
        and digits.isdigit()
        and (digits == "0" or not digits.startswith("0"))
    )


def of_target(rooms: Any, except_: Any) -> Target:
    """Whom a message is for; raises `MalformedEnvelope`.

    No rooms mean everyone there. Names that no room here can have are left out: where there is no
    other, nobody is meant.
    """
    named = _names(rooms)
    return Target(known(named) if named else None, known(_names(except_)))


def known(names: Iterable[str]) -> tuple[Room, ...]:
    """Those that a room here can have."""
    return tuple(dict.fromkeys(name for name in names if _is_known(name)))


def rooms_of(value: Any, *, limit: int | None = MAX_NAMES) -> tuple[Room, ...]:
    """Names of rooms, without those that no room here can have; raises `MalformedEnvelope`."""
    return known(_names(value, limit))


def _is_known(name: str) -> bool:
    try:
        check_rooms((name,))
    except InvalidRoomName:
        return False
    return True


def _names(value: Any, limit: int | None = MAX_NAMES) -> list[str]:
    """Names, or none for what emitters write instead of an empty list."""
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise MalformedEnvelope("its rooms are no list")
    if limit is not None and len(value) > limit:
        raise MalformedEnvelope(f"it names more than {limit} rooms")
    return [_name(name) for name in value]


def _name(name: Any) -> str:
    match name:
        case str():
            return name
        case bool():
            pass
        case int():
            return str(name)
        case float() if name.is_integer() and abs(name) < 2**53:
            return str(int(name))
        case float():
            return repr(name)
        case _:
            pass
    raise MalformedEnvelope(f"a room is named by a {type(name).__name__}")
