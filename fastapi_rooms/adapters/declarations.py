"""What workers tell the carrier of their application's rooms, for those who have no application.

Emitters, the command line and edges have no patterns of their own: which rooms remember, and which
know who is present, they learn from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.core.patterns import Patterns


class HistoryDeclaration(NamedTuple):
    """That the rooms of a pattern remember, as an application has declared it."""

    namespace: str
    """With the leading slash."""
    pattern: str
    retention: Retention


class PresenceDeclaration(NamedTuple):
    """That the rooms of a pattern know who is present, as an application has declared it."""

    namespace: str
    """With the leading slash."""
    pattern: str
    grace: float
    """Seconds that users stay present after their last socket has left; 0 for none."""


STALE = 120.0
"""Seconds after which a declaration that nobody has repeated is removed."""

Declaration: TypeAlias = HistoryDeclaration | PresenceDeclaration


class Declared:
    """Declarations, by what is asked of them.

    Args:
        declarations: in any order.
    """

    def __init__(self, declarations: Iterable[Declaration] = ()) -> None:
        self.history: dict[str, Patterns[Retention]] = {}
        """The rooms that remember, by namespace."""
        self.presence: dict[str, Patterns[float]] = {}
        """The grace of rooms that know who is present, by namespace."""
        for each in declarations:
            if isinstance(each, HistoryDeclaration):
                remembering = self.history.setdefault(each.namespace, Patterns())
                remembering.declare(each.pattern, each.retention)
            else:
                knowing = self.presence.setdefault(each.namespace, Patterns())
                knowing.declare(each.pattern, each.grace)

    def __bool__(self) -> bool:
        return bool(self.history or self.presence)


@runtime_checkable
class SupportsDeclarations(Protocol):
    """An adapter whose carrier tells others what rooms have."""

    async def declare(self, declarations: Sequence[Declaration]) -> None:
        """Tell what this worker's application has declared; of a pattern the last word counts.

        It is to be repeated: what no worker declares any more is forgotten after some minutes.
        Raises `AdapterUnavailable`.
        """

    async def declared(self) -> list[Declaration]:
        """What workers have told, in no order: of the same pattern once.

        Raises `AdapterUnavailable`, also if it may not be read.
        """
