"""Errors: the tree is as drawn, and each says what its reader needs."""

from __future__ import annotations

import builtins
import re

import pytest

from fastapi_rooms import errors
from fastapi_rooms.errors import (
    ClientError,
    InvalidMessage,
    JoinRefused,
    MessageTooLarge,
    NotStarted,
    RateLimited,
    RoomsError,
    TooManyRooms,
)


def _drawn() -> list[tuple[str, str | None, str | None]]:
    """Each line of the tree in the module's docstring: a class, its parent, its builtin parent."""
    drawn: list[tuple[str, str | None, str | None]] = []
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?:\s|$)", line)
        if not found:
            continue
        depth = len(found[1]) // 4
        path[depth:] = [found[2]]
        builtin = re.search(r"\((\w+Error)\)$", line)
        drawn.append((found[2], path[depth - 1] if depth else None, builtin and builtin[1]))
    return drawn


def test_the_tree_in_the_docstring_names_every_error_once() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    names = [name for name, _, _ in _drawn()]
    assert sorted(names) == sorted(defined)


@pytest.mark.parametrize(("name", "parent", "builtin"), _drawn())
def test_each_error_descends_as_drawn(name: str, parent: str | None, builtin: str | None) -> None:
    error = getattr(errors, name)
    drawn = [Exception if parent is None else getattr(errors, parent)]
    drawn += [getattr(builtins, builtin)] if builtin else []
    assert list(error.__bases__) == drawn
    assert issubclass(error, RoomsError)


def test_not_started_says_how_to_start() -> None:
    message = str(NotStarted())
    for way in ("lifespan=rooms.lifespan", "async with rooms:", "with TestClient(app)", "mounted"):
        assert way in message


def test_a_message_that_is_too_large_names_both_sizes_and_the_setting() -> None:
    error = MessageTooLarge(2048, 1024)
    assert (error.size, error.limit) == (2048, 1024)
    for word in ("2048", "1024", "max_message_bytes"):
        assert word in str(error)


@pytest.mark.parametrize("kind", [ClientError, InvalidMessage])
def test_a_clients_error_knows_the_code_that_tells_the_client(kind: type[ClientError]) -> None:
    error = kind("no", code=1003)
    assert error.code == 1003
    assert str(error) == "no"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (JoinRefused("tea"), 1008, "'tea'"),
        (JoinRefused("tea", "banned"), 1008, "banned"),
        (TooManyRooms(11, 10), 1008, "max_rooms_per_socket"),
        (TooManyRooms(11, 10), 1008, "Nothing was joined"),
        (RateLimited(), 4429, "too many messages"),
        (RateLimited("one at a time"), 4429, "one at a time"),
    ],
)
def test_what_a_client_may_not_do_closes_it_with_a_code_and_words(
    error: ClientError, code: int, words: str
) -> None:
    assert error.code == code
    assert words in str(error)
    assert len(str(error).encode()) <= 123  # what a close frame can carry (RFC 6455, 5.5)
