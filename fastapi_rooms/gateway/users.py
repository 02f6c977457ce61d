"""Who is present, in what edges and backends tell each other: read strictly."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.core.names import check_namespace, check_user
from fastapi_rooms.core.patterns import Patterns, check_pattern
from fastapi_rooms.errors import MalformedEnvelope, RoomsError
from fastapi_rooms.wire import gateway as wire

MAX_PATTERNS = 1000
"""More are not believed: no application has as many."""

NOBODY = ""
"""Stands for a user where it is not known who a socket is."""


def read_users(call: dict[str, Any]) -> Patterns[str]:
    """Who a socket is, by patterns of rooms, or `NOBODY`. Raises `MalformedEnvelope`."""
    given, users = wire.field(call, "users", dict), Patterns[str]()
    _check_count(given)
    for pattern, user in given.items():
        try:
            is_nobody = user == NOBODY
            users.declare(
                check_pattern(pattern, "presence", ""), NOBODY if is_nobody else check_user(user)
            )
        except RoomsError as error:
            raise MalformedEnvelope(f"{user!r} is nobody in {pattern!r}") from error
    return users


def read_patterns(about: dict[str, Any]) -> dict[str, Patterns[bool]]:
    """The rooms that a backend has handlers for, by namespace. Raises `MalformedEnvelope`."""
    given, told = wire.field(about, "told", list), dict[str, Patterns[bool]]()
    _check_count(given)
    for each in given:
        match each:
            case [str(namespace), str(pattern)]:
                try:
                    patterns = told.setdefault(check_namespace(namespace), Patterns())
                    patterns.declare(check_pattern(pattern, "presence", ""), True)
                except RoomsError as error:
                    raise MalformedEnvelope(f"there are no rooms like {pattern!r}") from error
            case _:
                raise MalformedEnvelope("a pattern of rooms has a namespace")
    return told


def _check_count(given: dict[str, Any] | list[Any]) -> None:
    if len(given) > MAX_PATTERNS:
        raise MalformedEnvelope(f"{len(given)} patterns are more than {MAX_PATTERNS}")
