"""`socket.disconnect`: out of every room at once, and closed behind what was sent before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import ConfigurationError, RoomManager, Socket, UsageError
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import FakeAdapter, all_is_over, app_of
from tests.unit.worker.support import nothing_is_left


@pytest.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Member]:
    """A client in the lobby and in the bar."""
    async with Member(rooms, "lobby", "bar", sid="ann") as ann:
        yield ann


# What the client gets.


async def test_the_client_is_told_the_code_and_the_reason(ann: Member) -> None:
    await ann.socket.disconnect(4001, "moved")
    assert await ann.wait_closed() == 4001
    assert ann.close_reason == "moved"
    await ann.wait_ended()


async def test_without_a_code_it_is_a_normal_closure(ann: Member) -> None:
    await ann.socket.disconnect()
    assert await ann.wait_closed() == 1000
    assert ann.close_reason == ""


async def test_the_client_is_closed_behind_what_was_sent_to_it(
    rooms: RoomManager, ann: Member
) -> None:
    ann.stall()
    for number in range(5):
        await rooms.to("lobby").send_text(str(number))
    await ann.socket.disconnect(4001)
    await rooms.to("ann", "lobby").send_text("too late")
    assert ann.close_code is None
    ann.resume()
    assert await ann.wait_closed() == 4001
    assert ann.unread == ["0", "1", "2", "3", "4"]


async def test_a_broadcast_that_a_crowd_is_being_sent_arrives_before_the_close(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        crowd = [
            await stack.enter_async_context(Member(rooms, "crowd"))
            for _ in range(IMMEDIATE_MAX + 1)
        ]
        sending = asyncio.create_task(rooms.to("crowd").send_text("before"))
        await asyncio.sleep(0)
        await crowd[0].socket.disconnect(4001)
        assert await crowd[0].wait_closed() == 4001
        assert crowd[0].unread == ["before"]
        await sending


# Where the socket is.


async def test_the_socket_is_out_of_every_room_when_it_returns(
    rooms: RoomManager, adapter: FakeAdapter, ann: Member
) -> None:
    ann.stall()
    await rooms.to("lobby").send_text("so that it cannot be closed yet")
    await ann.socket.disconnect()
    assert ann.close_code is None
    assert ann.socket.rooms == set()
    assert rooms.rooms == rooms.sids == {}
    assert await rooms.count() == 0
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")
    ann.resume()


async def test_its_events_are_told_once(rooms: RoomManager, ann: Member) -> None:
    events: list[tuple[str, ...]] = []
    rooms.on("leave-room")(lambda room, s: events.append(("leave-room", room, s.sid)))
    rooms.on("delete-room")(lambda room: events.append(("delete-room", room)))
    rooms.on("disconnect")(lambda socket: events.append(("disconnect", socket.sid)))
    await ann.socket.disconnect()
    await ann.wait_ended()
    assert sorted(events) == [
        ("delete-room", "bar"),
        ("delete-room", "lobby"),
        ("disconnect", "ann"),
        ("leave-room", "bar", "ann"),
        ("leave-room", "lobby", "ann"),
    ]


async def test_its_sid_is_free_at_once(rooms: RoomManager, ann: Member) -> None:
    ann.stall()
    await rooms.to("ann").send_text("so that it cannot be closed yet")
    await ann.socket.disconnect(4001)
    async with Member(rooms, "lobby", sid="ann") as present:
        await ann.socket.disconnect(4002)  # of the former socket
        assert present.socket.rooms == {"ann", "lobby"}
        ann.resume()
        assert await ann.wait_closed() == 4001
        await rooms.to("lobby").send_text("still here")
        assert await present.receive_text() == "still here"


# What has left cannot be disconnected.


async def test_disconnecting_twice_is_disconnecting_once(ann: Member) -> None:
    await asyncio.gather(ann.socket.disconnect(4001), ann.socket.disconnect(4002))
    assert await ann.wait_closed() == 4001
    await ann.socket.disconnect(4003)
    await ann.wait_ended()
    assert ann.close_code == 4001


async def test_a_socket_whose_block_is_over_can_be_disconnected_without_harm(
    rooms: RoomManager, ann: Member
) -> None:
    ann.leave()
    await ann.wait_ended()
    await ann.socket.disconnect(4001)
    assert ann.close_code == 1000
    await all_is_over(rooms)


async def test_a_client_that_has_gone_unnoticed_can_be_disconnected_without_harm(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()
    sockets: list[Socket] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            sockets.append(socket)
            await may_end.wait()

    async with WebSocketClient(app_of(endpoint)) as client:
        await eventually(lambda: sockets)
        client.leave(1006)
        await sockets[0].disconnect(4001)
        may_end.set()
        await client.wait_ended()
    assert not caplog.records
    await nothing_is_left(rooms, adapter)


async def test_a_websocket_that_the_endpoint_has_closed_keeps_its_code(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await websocket.close(4000)
            await socket.disconnect(4001)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4000
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


async def test_a_socket_of_a_manager_that_was_closed_can_be_disconnected_without_harm(
    adapter: FakeAdapter,
) -> None:
    async with RoomManager(adapter, drain_timeout=0.01) as rooms:
        ann = Member(rooms)
        await ann.open()
    await ann.socket.disconnect(4001)
    assert ann.close_code == 1012
    await ann.close()


# What cannot be sent.


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (1005, "", ConfigurationError),
        (1006, "", ConfigurationError),
        (999, "", ConfigurationError),
        (5000, "", ConfigurationError),
        ("1000", "", ConfigurationError),
        (1000, "x" * 124, UsageError),
        (1000, "é" * 62, UsageError),
        (1000, "\ud800", UsageError),
        (1000, None, UsageError),
    ],
    ids=ascii,
)
async def test_a_code_or_reason_that_cannot_be_sent_is_refused_and_nothing_happens(
    rooms: RoomManager, ann: Member, code: Any, reason: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await ann.socket.disconnect(code, reason)
    assert ann.socket.rooms == {"ann", "lobby", "bar"}
    await rooms.to("lobby").send_text("still here")
    assert await ann.receive_text() == "still here"
    ann.leave()
    await ann.wait_ended()
    with pytest.raises(error):  # as there is nothing that would make it right later
        await ann.socket.disconnect(code, reason)


# What is sent to it from then on.


@pytest.mark.parametrize("verb", ["send_text", "send_bytes", "send_json"])
async def test_what_is_sent_to_a_socket_that_is_being_closed_raises_and_does_not_arrive(
    rooms: RoomManager, ann: Member, verb: str
) -> None:
    ann.stall()
    await rooms.to("lobby").send_text("before")
    await ann.socket.disconnect(4001)
    data = b"too late" if verb == "send_bytes" else "too late"
    with pytest.raises(WebSocketDisconnect, match="has left") as gone:
        await getattr(ann.socket, verb)(data)
    assert getattr(gone.value, "socket", None) is ann.socket
    ann.resume()
    assert await ann.wait_closed() == 4001
    assert ann.unread == ["before"]


async def test_a_socket_that_is_about_to_be_closed_by_a_request_takes_no_more(
    rooms: RoomManager, ann: Member
) -> None:
    closing = asyncio.create_task(rooms.to("lobby").disconnect_sockets(4001))
    await eventually(lambda: not ann.socket.rooms)
    with pytest.raises(WebSocketDisconnect):
        await ann.socket.send_text("too late")
    await closing
    assert await ann.wait_closed() == 4001
    assert ann.unread == []


async def test_an_endpoint_that_sends_after_it_has_disconnected_ends_quietly(
    rooms: RoomManager, caplog: pytest.LogCaptureFixture
) -> None:
    after: list[str] = []

    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.send_text("before")
            await socket.disconnect(4001)
            await socket.send_text("too late")
            after.append("the send")
        after.append("the block")

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.wait_closed() == 4001
        assert client.unread == ["before"]
        await client.wait_ended()
    assert after == ["the block"]
    assert not caplog.records


async def test_a_task_that_sends_when_the_block_is_over_is_told_so(rooms: RoomManager) -> None:
    async with Member(rooms, sid="ann") as ann:
        pass
    await ann.wait_ended()
    with pytest.raises(WebSocketDisconnect, match=r"ann.*has left"):
        await ann.socket.send_text("too late")
