"""Which rooms remember, what is refused there, and what is as in all other rooms."""

from __future__ import annotations

import pytest

from fastapi_rooms import (
    ConfigurationError,
    Gap,
    JoinRefused,
    Outage,
    RoomManager,
    Socket,
    UsageError,
)
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec, kept
from fastapi_rooms.wire.envelope import Broadcast
from tests.conformance.history.scene import ROOM, Make, Pair, heard_by

OTHER_NODE = "0123456789abcdef"


async def test_other_rooms_are_as_they_were(pair: Pair) -> None:
    one, two = pair
    async with Member(one, "plain") as ann, Member(two, "plain", ROOM) as bob:
        await one.to("plain").send_text("hello")
        await one.send_text("to all")
        assert await heard_by(ann, 2) == await heard_by(bob, 2) == ["hello", "to all"]
        assert ann.socket.position("plain") is None
        for wanted in ({"since": "x"}, {"recent": 1}):
            with pytest.raises(UsageError, match="one room that remembers"):
                await ann.socket.join("other", **wanted)
        for read in (one.recent, one.position, one.clear_history):
            with pytest.raises(UsageError, match="has no history"):
                await read("plain")


async def test_a_room_with_a_history_is_addressed_alone(
    pair: Pair,
) -> None:
    one, _ = pair
    with pytest.raises(UsageError, match=f"'{ROOM}' has a history"):
        await one.to("plain", ROOM).send_text("hello")


async def test_who_may_not_join_is_replayed_nothing(make: Make) -> None:
    rooms = make()

    @rooms.authorize("chat-*")
    def nobody(socket: Socket, room: str) -> bool:
        return False

    async with rooms:
        await rooms.to(ROOM).send_text("a secret")
        async with Member(rooms) as ann:
            with pytest.raises(JoinRefused):
                await ann.socket.join(ROOM, recent=10)
            await ann.socket.send_text("end")
            assert await ann.receive() == "end"


async def test_the_longest_pattern_counts_and_clones_remember_as_well(make: Make) -> None:
    rooms = make()
    rooms.history("chat-short", size=1)
    async with rooms.clone() as clone:
        for room in ("chat-short", "chat-long"):
            for n in range(5):
                await clone.to(room).send_text(f"{n}")
        assert [m.text for m in await clone.recent("chat-short")][-1:] == ["4"]
        assert len(await clone.recent("chat-long")) == 5


async def test_what_is_declared_too_late_or_cannot_be_is_refused(make: Make) -> None:
    rooms = make()
    for wrong in ({"size": 0}, {"ttl": 0}, {"size": 1.5}):
        with pytest.raises(ConfigurationError):
            rooms.history("x", **wrong)
    with pytest.raises(ConfigurationError, match="matches no room"):
        rooms.history("")
    async with rooms:
        with pytest.raises(ConfigurationError, match=r"rooms\.recent"):
            rooms.history("late-*")


async def test_a_gap_is_told_of_plain_rooms_only(make: Make) -> None:
    rooms, gaps = make(), list[Gap]()
    rooms.on("gap")(gaps.append)
    async with rooms, Member(rooms, "plain", ROOM):
        outage_of(rooms)
        await eventually(lambda: gaps)
        assert [gap.rooms for gap in gaps] == [("plain",)]


def outage_of(rooms: RoomManager) -> None:
    """Have a manager believe that it was cut off."""
    channels = frozenset(rooms._runtime.channels.of_room("/", r) for r in ("plain", ROOM))
    rooms._runtime.run.gap(Outage(1.0, 2.0, channels))


@pytest.mark.parametrize("target", [Target(), Target(("plain",)), Target(("plain", ROOM))])
async def test_what_has_a_place_where_none_is_kept_is_delivered_without(
    pair: Pair, target: Target
) -> None:
    """From a version of the application that keeps more, or from somebody who forges."""
    one, _ = pair
    async with Member(one, "plain", ROOM) as ann:
        message = Broadcast(OTHER_NODE, 1, "/", target, Payload.of_text("hello"))
        data = kept.encode(Position("0" * 16, 7, 9), 8, codec.encode(message))
        one._runtime.run.received(b"a channel", data)
        assert await ann.receive() == "hello"
        await one.to(ROOM).send_text("goes on")
        assert await ann.receive() == "goes on"
