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
        return Target(_with(self.rooms or (), names), self.except_)

    def excluding(self, names: tuple[Room, ...]) -> Target:
        """This target with more rooms excluded."""
        return Target(self.rooms, _with(self.except_, names))


def _with(known: tuple[Room, ...], names: tuple[Room, ...]) -> tuple[Room, ...]:
    """The known names and the new ones among the others, each once."""
    if len(names) == 1:  # most often, and known is short then
        return known if names[0] in known else known + names
    return tuple(dict.fromkeys(known + names))
