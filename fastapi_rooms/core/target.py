"""The sockets that a broadcast or command addresses."""

from __future__ import annotations

from typing import NamedTuple

from fastapi_rooms.types import Room


class Target(NamedTuple):
    """The members of any of some rooms, or of the whole namespace, except those of other rooms."""

    rooms: tuple[Room, ...] | None = None
    """The rooms or sids addressed: `None` is the whole namespace, `()` is nobody."""

    except_: tuple[Room, ...] = ()
    """Rooms or sids whose sockets are excluded."""

    def to(self, names: tuple[Room, ...]) -> Target:
        """This target with more rooms; a whole namespace is narrowed down to them."""
        if self.rooms is None and len(names) == 1:
            return Target(names, self.except_)
        known = self.rooms or ()
        return Target(
            known + tuple(n for n in dict.fromkeys(names) if n not in known), self.except_
        )

    def excluding(self, names: tuple[Room, ...]) -> Target:
        """This target with more rooms excluded."""
        known = self.except_
        return Target(self.rooms, known + tuple(n for n in dict.fromkeys(names) if n not in known))
