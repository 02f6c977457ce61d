"""The position of a socket or listener is what it has been sent, and not what waits for it."""

from __future__ import annotations

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RoomManager
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


async def test_a_listener_knows_up_to_where_it_has_been_handed_messages() -> None:
    bus = MemoryBus()
    one, two = (RoomManager(MemoryAdapter(bus)) for _ in range(2))
    for rooms in (one, two):
        rooms.history("chat-*")
    async with one, two:
        await _knows_its_position(one, two)


async def _knows_its_position(one: RoomManager, two: RoomManager) -> None:
    start = await one.position(ROOM)
    async with one.listen(ROOM) as messages:
        assert messages.position == start
        await two.to(ROOM).send_text("1")
        await two.to(ROOM).send_text("2")
        await two.to(ROOM).volatile.send_text("volatile")
        for text in ("1", "2", "volatile"):
            message = await anext(messages)
            assert message.text == text
            assert messages.position == message.position or text == "volatile"
        end = messages.position
        assert end == await one.position(ROOM)
    async with two.listen(ROOM, since=start) as messages:
        assert messages.position == start, "nothing has been handed out"
        first = await anext(messages)
        assert messages.position == first.position != end
    async with two.listen(ROOM, since="gone") as messages:
        assert (messages.recovered, messages.position) == (False, end)
    async with two.listen(ROOM, recent=1) as messages:
        positions = [messages.position]
        await anext(messages)
        assert [*positions, messages.position] == [None, end]
    for rooms in (("plain",), (ROOM, "chat-other"), (ROOM, "plain")):
        async with one.listen(*rooms) as messages:
            await two.to(rooms[0]).send_text("hello")
            assert (await anext(messages)).text == "hello"
            assert messages.position is None
