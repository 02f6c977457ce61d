"""What the tests of framed clients share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Member, eventually
from tests.framed_client import FramedMember

SIZE = 20
ROOM, OTHER = "chat-tea", "chat-cake"
Make = Callable[..., RoomManager]
Pair = tuple[RoomManager, RoomManager]


async def heard(member: Member | FramedMember, count: int) -> list[str | bytes]:
    return [await member.receive() for _ in range(count)]


async def at(member: FramedMember, room: str, position: str) -> None:
    """Wait until a client knows that it has everything up to there."""

    def is_there() -> bool:
        member._messages += member.take_in()
        return member.framing.positions.get(room) == position

    await eventually(is_there, what=f"{position} in {room}")


async def until_end(member: Member | FramedMember) -> AsyncIterator[str | bytes]:
    while (message := await member.receive()) != "end":
        yield message
