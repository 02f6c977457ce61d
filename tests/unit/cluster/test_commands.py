"""What a worker does for others that ask."""

from __future__ import annotations

import pytest

from fastapi_rooms import AdapterUnavailable, MessageTooLarge, RoomManager
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from tests.unit.support import OTHER_NODE, WORKERS, FakeAdapter, channel_of


def tell(adapter: FakeAdapter, number: int, verb: str, target: Target, rooms: list[str]) -> None:
    """What another worker, or an emitter, asks for without wanting an answer."""
    request = Request(OTHER_NODE, number, "/", target, 0, verb, {"rooms": rooms})
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


async def test_who_joins_is_decided_before_the_next_request_makes_them_leave() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter) as rooms, Member(rooms, "tea", sid="ann") as ann:
        tell(adapter, 1, "join", Target(("tea",)), ["coffee"])
        tell(adapter, 2, "leave", Target(("tea",)), ["tea"])
        assert ann.socket.rooms == {"ann"}
        await eventually(lambda: ann.socket.rooms == {"ann", "coffee"}, what="she has moved")


async def test_a_worker_where_nobody_joins_subscribes_to_nothing() -> None:
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
        adapter.hold()
        with pytest.raises(
            AdapterUnavailable, match=r"'join' was not done on this worker in 0.01 s"
        ):
            await rooms.sockets_join("coffee", timeout=0.01)
        adapter.release()
        assert "coffee" not in rooms.rooms


async def test_an_event_can_be_no_longer_than_a_message() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, max_message_bytes=40) as rooms:
        before = len(adapter.hellos)
        for emit in (rooms.server_side_emit, rooms.server_side_emit_with_ack):
            with pytest.raises(MessageTooLarge):
                await emit("reload", "x" * 40)
        assert len(adapter.hellos) == before
        await rooms.server_side_emit("reload", "x")
        assert len(adapter.hellos) == before + 1
