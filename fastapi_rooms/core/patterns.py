"""Patterns of room names: a name, or the beginning of names and a `*`. The longest match wins."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator
from typing import Generic, TypeVar

from fastapi_rooms.core.names import check_room, node_of, plain
from fastapi_rooms.errors import ConfigurationError, InvalidRoomName
from fastapi_rooms.types import Room

T = TypeVar("T")


def check_pattern(pattern: object, verb: str, advice: str) -> str:
    """Return a pattern, or raise `ConfigurationError` for one that cannot mean what it says."""
    text = plain(pattern) if isinstance(pattern, str) else ""
    beginning = text.removesuffix("*")
    try:
        if text != "*":
            check_room(beginning)
    except InvalidRoomName as error:
        raise ConfigurationError(f"{verb}({pattern!r}) matches no room. {error}") from None
    start, star, _ = beginning.partition("*")
    if star:
        raise ConfigurationError(
            f"{verb}({text!r}) does not match what it seems to match: only at the end of a pattern "
            f"a * stands for any rest of a name. Use {start + '*'!r} instead. {advice}"
        )
    return text


class Patterns(Generic[T]):
    """What is declared for the rooms of some patterns."""

    def __init__(self) -> None:
        self._declared: dict[str, T] = {}
        self._lengths: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._declared)

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def items(self) -> ItemsView[str, T]:
        """The patterns, and what is declared for each."""
        return self._declared.items()

    def declared(self, pattern: str) -> T | None:
        """What is declared for a pattern itself."""
        return self._declared.get(pattern)

    def declare(self, pattern: str, value: T) -> None:
        """Declare something, in place of what was declared for the same pattern."""
        self._declared[pattern] = value
        lengths = {len(p) for p in self._declared if p.endswith("*")}
        self._lengths = tuple(sorted(lengths, reverse=True))

    def find(self, room: Room) -> T | None:
        """What is declared for a room. Nothing is for a generated sid."""
        declared = self._declared
        if not declared or node_of(room) is not None:
            return None
        found = declared.get(room)
        if found is None:
            for length in self._lengths:
                if length <= len(room) + 1:
                    found = declared.get(room[: length - 1] + "*")
                    if found is not None:
                        break
        return found

    def over(self, others: Patterns[T]) -> Patterns[T]:
        """These and others: of a pattern that both have, what is declared here."""
        both: Patterns[T] = Patterns()
        for pattern, value in (*others.items(), *self.items()):
            both.declare(pattern, value)
        return both

    def keep(self, earlier: Patterns[T], rooms: Iterable[Room]) -> None:
        """Keep what some rooms had of earlier patterns, and would not have any more."""
        if any(pattern not in self._declared for pattern in earlier):
            for room in rooms:
                if self.find(room) is None and (pattern := earlier._match(room)) is not None:
                    self.declare(pattern, earlier._declared[pattern])

    def _match(self, room: Room) -> str | None:
        """The pattern of which is what `find` finds."""
        names = room, *(room[: length - 1] + "*" for length in self._lengths)
        return next((name for name in names if name in self._declared), None)
