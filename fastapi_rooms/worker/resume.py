"""What somebody who joins a recoverable room asks for, and gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import Room


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join has brought."""

    recovered: bool | None = None
    """Whether everything since the position that was given is there: then it was replayed. False:
    it is lost, or too much, and nothing was; or the client read so slowly that what followed was
    lost meanwhile. `None`: no position was given, neither to the join nor by a client that speaks
    the framing. Of several rooms, false if it is for any."""
    replayed: int = 0
    """How many earlier messages were sent to the socket."""
    positions: dict[Room, str] = field(default_factory=dict)
    """The position in each recoverable room that was joined: behind what was replayed, and before
    what follows. Plain rooms have none."""


@dataclass(frozen=True, slots=True)
class Resume:
    """What somebody who joins wants of what was sent before."""

    since: str | None = None
    recent: int | None = None
    brought: Mapping[Room, str] = field(default_factory=dict)
    """The positions that the client itself has brought, for any rooms."""

    def __post_init__(self) -> None:
        if self.recent is not None and (type(self.recent) is not int or self.recent < 0):
            raise UsageError(f"recent is a number of messages, not {self.recent!r}.")

    def since_of(self, room: Room) -> str | None:
        """The position in a room from which to go on. What is given outranks the client's own."""
        return self.brought.get(room) if self.since is None else self.since

    @property
    def is_asked(self) -> bool:
        """Whether the endpoint wants anything."""
        return self.since is not None or self.recent is not None
