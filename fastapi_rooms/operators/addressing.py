"""How a target is built: the part that all operators share."""

from __future__ import annotations

from typing import Generic, TypeVar

from fastapi_rooms.core.names import check_rooms
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import UsageError
from fastapi_rooms.types import Room
from fastapi_rooms.wire.codec import MAX_NAMES

Op = TypeVar("Op")


class Addressing(Generic[Op]):
    """Adds to a target; each call gives another operator and changes nothing."""

    __slots__ = ("_target",)

    def __init__(self, target: Target) -> None:
        self._target = target

    def to(self, *names: Room) -> Op:
        """Address these rooms, or sids, too.

        No names address nobody: a computed list that comes out empty must not reach everyone.

        Raises:
            InvalidRoomName: a name is not a string of 1 to 255 UTF-8 bytes.
            UsageError: these are more than 65,535 names.
        """
        return self._checked(self._target.to(check_rooms(names)))

    def except_(self, *names: Room) -> Op:
        """Leave out every socket that is in one of these rooms, or has one of these sids.

        Raises:
            InvalidRoomName: a name is not a string of 1 to 255 UTF-8 bytes.
            UsageError: these are more than 65,535 names.
        """
        return self._checked(self._target.excluding(check_rooms(names)))

    def _checked(self, target: Target) -> Op:
        if len(target.rooms or ()) > MAX_NAMES or len(target.except_) > MAX_NAMES:
            raise UsageError(f"One broadcast can name, or leave out, at most {MAX_NAMES} rooms.")
        return self._with_target(target)

    def _with_target(self, target: Target) -> Op:
        """The same operator with another target."""
        raise NotImplementedError
