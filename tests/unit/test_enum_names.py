"""Names that are members of a `(str, Enum)`, as FastAPI has path parameters, on two workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import Enum
from typing import Any

import pytest

from fastapi_rooms import MemoryAdapter, MemoryBus, RoomManager, Socket
from fastapi_rooms.testing import Member


class Name(str, Enum):  # noqa: UP042 -- whose text is "Name.LOBBY"
    LOBBY = "lobby"
    BAR = "bar"
    CHAT = "chat"
    ANN = "ann"
    PREFIX = "shop"
    EVENT = "ring"
    PATTERN = "lob*"


@pytest.fixture
async def workers() -> AsyncIterator[tuple[RoomManager, RoomManager]]:
    bus = MemoryBus()
    named = RoomManager(MemoryAdapter(bus, prefix=Name.PREFIX), prefix=Name.PREFIX)
    plain = RoomManager(MemoryAdapter(bus, prefix="shop"), prefix="shop")
    async with named, plain:
        yield named, plain


async def test_every_verb_takes_them(workers: tuple[RoomManager, RoomManager]) -> None:
    named, plain = workers
    async with (
        Member(named, Name.LOBBY, sid=Name.ANN) as here,
        Member(plain, "lobby", sid="bob") as there,
    ):
        assert {type(name) for name in (*named.rooms, *here.socket.rooms, here.sid)} == {str}
        assert set(named.rooms) == {"lobby", "ann"}
        for sender, room, sid in ((named, Name.LOBBY, Name.ANN), (plain, "lobby", "ann")):
            await sender.to(room).send_text("to the room")
            await sender.to(room).except_(sid).send_text("to bob")
            await sender.to(sid).send_text("to ann")
        assert [await here.receive() for _ in range(4)] == ["to the room", "to ann"] * 2
        assert [await there.receive() for _ in range(4)] == ["to the room", "to bob"] * 2

        await plain.to("lobby").sockets_join(Name.BAR)
        assert await plain.all_rooms() == {"lobby", "bar", "ann", "bob"}
        await plain.to(Name.LOBBY).sockets_leave(Name.BAR)
        assert await plain.all_rooms() == {"lobby", "ann", "bob"}
        async with plain.listen(Name.LOBBY) as messages:
            await named.to("lobby").send_text("heard")
            message = await anext(messages)
        assert (message.text, message.room, type(message.room)) == ("heard", "lobby", str)
        await here.socket.leave(Name.LOBBY)
        assert set(named.rooms) == {"ann"}


async def test_namespaces_events_and_patterns_are_named_by_them() -> None:
    bus = MemoryBus()
    named, plain = (RoomManager(MemoryAdapter(bus)) for _ in range(2))
    assert named.of(Name.CHAT) is named.of("chat")
    assert named.of(Name.CHAT).name == "/chat"
    rung: list[Any] = []
    asked: list[str] = []
    plain.on_server_side(Name.EVENT)(rung.append)

    @named.authorize(Name.PATTERN)
    def allow(socket: Socket, room: str) -> bool:
        asked.append(room)
        return True

    async with named, plain, Member(named, Name.LOBBY):
        replies = await named.server_side_emit_with_ack(Name.EVENT, 1)
        assert [reply.error for reply in replies] == [None]
        assert rung == [1]
        assert asked == ["lobby"]
        assert type(asked[0]) is str
