"""Which rooms there are, and who is told what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fastapi_rooms.adapters.presence import UserEvent
from fastapi_rooms.types import Room


class Name(NamedTuple):
    """A room, of whichever namespace."""

    namespace: str
    room: Room

    @property
    def key(self) -> bytes:
        """As carriers know it."""
        return f"{self.namespace}#{self.room}".encode()

    @classmethod
    def of(cls, key: bytes) -> Name | None:
        """The room of a key; `None` if it is none."""
        try:
            namespace, hash_, room = key.decode().partition("#")
        except UnicodeDecodeError:
            return None
        return cls(namespace, room) if hash_ and namespace and room else None


class PresenceHost(Protocol):
    """Who knows what was declared, and is told what became of it."""

    def grace_of(self, name: Name) -> float:
        """Seconds that users of a room are present after their last socket has left."""

    def made(self, name: Name, events: Sequence[UserEvent]) -> None:
        """Users came or went, and it was this worker's doing."""

    def heard(self, name: Name) -> int:
        """The highest version of a room's events that handlers were told of; 0 for none."""

    def compared(self, name: Name, version: int) -> None:
        """A room has this version; what was told of a higher one was no truth."""


class ToldOfUsers(Protocol):
    """The part of a namespace that is about who is present."""

    @property
    def has_handlers(self) -> bool:
        """Whether anybody is told of it."""

    def received(self, room: Room, event: UserEvent) -> None:
        """A user has come into a room, or gone from it."""
