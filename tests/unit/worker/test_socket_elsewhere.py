"""A socket's membership belongs to its event loop: elsewhere it is refused, before it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fastapi_rooms import RoomManager, Socket, UsageError
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter, all_is_over

USES: dict[str, Callable[[Socket], Awaitable[object]]] = {
    "join": lambda socket: socket.join("bar"),
    "leave": lambda socket: socket.leave("lobby"),
    "disconnect": lambda socket: socket.disconnect(4001),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_socket_does_nothing_in_another_event_loop(
    rooms: RoomManager, adapter: FakeAdapter, use: Callable[[Socket], Awaitable[object]]
) -> None:
    asked: list[str] = []

    @rooms.authorize("*")
    def allow(socket: Socket, room: str) -> bool:
        asked.append(room)
        return True

    async with Member(rooms, "lobby", sid="ann") as ann:
        asked.clear()

        async def elsewhere() -> None:
            await use(ann.socket)

        with pytest.raises(UsageError, match=r"rooms\.sync"):
            await asyncio.to_thread(asyncio.run, elsewhere())
        assert rooms.rooms == {"ann": {"ann"}, "lobby": {"ann"}}
        assert asked == []
        assert ann.close_code is None
    await all_is_over(rooms)
