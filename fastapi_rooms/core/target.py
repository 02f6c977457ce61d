"""Whom a broadcast, or a command, is for."""

from __future__ import annotations

from typing import NamedTuple

from fastapi_rooms.types import Room


class Target(NamedTuple):
    """Whom a broadcast is for: the union of some rooms, or everyone, less some rooms or sids."""

    rooms: tuple[Room, ...] | None = None
    """The rooms or sids addressed; `None` is everyone in the namespace, `()` is nobody."""

    except_: tuple[Room, ...] = ()
    """Rooms or sids whose sockets do not get it."""

    def to(self, names: tuple[Room, ...]) -> Target:
        """This target and some rooms more."""
        if self.rooms is None and len(names) == 1:
            return Target(names, self.except_)
        known = self.rooms or ()
        return Target(
            known + tuple(n for n in dict.fromkeys(names) if n not in known), self.except_
        )

    def excluding(self, names: tuple[Room, ...]) -> Target:
        """This target without the sockets of some rooms."""
        known = self.except_
        return Target(self.rooms, known + tuple(n for n in dict.fromkeys(names) if n not in known))
