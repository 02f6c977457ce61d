"""What a worker does for others that ask, and what it takes no part in."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable, MessageTooLarge, RoomManager, UsageError, codec
from fastapi_rooms.cluster.remote import sockets_for
from fastapi_rooms.cluster.verbs import check_close
from fastapi_rooms.envelope import Request, Target
from fastapi_rooms.testing import Member, eventually
from tests.unit.support import OTHER_NODE, WORKERS, FakeAdapter, FakeAsker, channel_of


def tell(adapter: FakeAdapter, number: int, verb: str, target: Target, rooms: list[str]) -> None:
    """What another worker, or an emitter, asks for without wanting an answer."""
    request = Request(OTHER_NODE, number, "/", target, 0, verb, {"rooms": rooms})
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


async def test_who_is_to_join_is_known_before_the_next_request_has_them_leave() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter) as rooms, Member(rooms, "tea", sid="ann") as ann:
        tell(adapter, 1, "join", Target(("tea",)), ["coffee"])
        tell(adapter, 2, "leave", Target(("tea",)), ["tea"])
        assert ann.socket.rooms == {"ann"}
        await eventually(lambda: ann.socket.rooms == {"ann", "coffee"}, what="she has moved")


async def test_where_nobody_is_to_join_nothing_is_subscribed_to() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, linger=60) as rooms, Member(rooms, "tea"):
        await rooms.to("nowhere").sockets_join("coffee")
        assert channel_of("coffee") not in adapter.subscribed
        await rooms.to("tea").sockets_join("coffee")
        assert channel_of("coffee") in adapter.subscribed


async def test_a_verb_takes_no_longer_than_its_timeout() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, join_timeout=600)
    async with rooms, Member(rooms, "tea"):
        adapter.hold_up()
        with pytest.raises(AdapterUnavailable, match=r"'join' here in 0.01 s"):
            await rooms.sockets_join("coffee", timeout=0.01)
        adapter.let_go()
        assert "coffee" not in rooms.rooms


async def test_an_event_is_no_longer_than_a_message_may_be() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, max_message_bytes=40) as rooms:
        before = len(adapter.greetings)
        for emit in (rooms.server_side_emit, rooms.server_side_emit_with_ack):
            with pytest.raises(MessageTooLarge):
                await emit("reload", "x" * 40)
        assert len(adapter.greetings) == before
        await rooms.server_side_emit("reload", "x")
        assert len(adapter.greetings) == before + 1


@pytest.mark.parametrize(
    "row",
    [
        ["", [], {}],
        ["x" * 256, [], {}],
        [5, [], {}],
        ["ann", [""], {}],
        ["ann", [5], {}],
        ["ann", {}, {}],
        ["ann", [], []],
        ["ann", []],
        None,
    ],
)
def test_a_socket_that_cannot_be_is_not_believed(row: Any) -> None:
    answer: Any = sockets_for(FakeAsker())  # type: ignore[arg-type]
    [found] = answer.read(OTHER_NODE, [["ann", ["tea"], {"a": 1}]])
    assert (found.sid, found.rooms, found.data) == ("ann", {"tea"}, {"a": 1})
    with pytest.raises(ValueError, match=r"not a socket|room name"):
        answer.read(OTHER_NODE, [row])


@pytest.mark.parametrize("reason", ["x" * 124, "\ud800", None, b"bytes"], ids=ascii)
def test_a_close_reason_that_cannot_be_sent_is_refused(reason: object) -> None:
    assert check_close(1000, "ä" * 61) == (1000, "ä" * 61)
    with pytest.raises(UsageError, match="close reason"):
        check_close(1000, reason)
