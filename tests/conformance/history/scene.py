"""What the tests of rooms that remember start from."""

from __future__ import annotations

from collections.abc import Callable

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Member

SIZE = 20
ROOM = "chat-tea"
Make = Callable[..., RoomManager]
Pair = tuple[RoomManager, RoomManager]


async def heard_by(member: Member, count: int) -> list[str]:
    """The next so many messages of a member."""
    return [str(await member.receive()) for _ in range(count)]
