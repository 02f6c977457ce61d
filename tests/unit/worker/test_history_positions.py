"""The position of a socket is what it has been sent, and not what waits to be written to it."""

from __future__ import annotations

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import Member
from fastapi_rooms.worker import fanout

ROOM = "chat-tea"


async def test_a_position_that_is_sent_to_a_client_does_not_overtake_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout, "SLICE", 1)  # so that writing to all of them takes many turns
    rooms = RoomManager()
    rooms.history("chat-*")
    async with rooms, rooms.listen(ROOM) as messages:
        members = [Member(rooms, ROOM) for _ in range(40)]
        for member in members:
            await member.open()
        last = members[-1]
        positions = [await rooms.position(ROOM)]
        for number in range(3):
            await rooms.to(ROOM).send_text(f"{number}")
            positions.append(str((await anext(messages)).position))
            await last.socket.send_text(f"up to {last.socket.position(ROOM)}")
        await rooms.to(ROOM).send_text("end")
        heard = 0
        for text in map(str, await last.receive_until("end")):
            if text.startswith("up to "):
                assert positions.index(text.removeprefix("up to ")) <= heard
            else:
                heard += 1
        assert heard == 3
        assert last.socket.position(ROOM) == await rooms.position(ROOM)
        for member in members:
            await member.close()
