"""What a connected client is sent: in which order, and what is dropped when it is behind."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.testing import Member, WebSocketClient, eventually
from tests.unit.support import FakeAdapter, app_of
from tests.unit.worker.support import (
    LARGE,
    bounded_manager,
    member_endpoint,
    nothing_is_left,
    until_gone,
)


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [0, 3, 4, 5]), ("drop_newest", [0, 1, 2, 5])]
)
async def test_a_dropping_outbox_keeps_the_client_and_counts_what_it_missed(
    adapter: FakeAdapter, overflow: Literal["drop_oldest", "drop_newest"], kept: list[int]
) -> None:
    rooms = bounded_manager(adapter, overflow)
    sockets: list[Socket] = []
    async with rooms:
        async with WebSocketClient(app_of(member_endpoint(rooms, sockets))) as client:
            await eventually(lambda: "lobby" in rooms.rooms)
            [socket] = sockets
            client.stall()
            await rooms.to("lobby").send_text(f"0{LARGE}")
            await eventually(lambda: socket.pending == 0, what="the first is on its way")
            for number in range(1, 5):
                await rooms.to("lobby").send_text(f"{number}{LARGE}")
            assert socket.dropped == 2
            client.resume()
            await eventually(lambda: len(client.unread) == 3)
            await rooms.to("lobby").send_text(f"5{LARGE}")
            assert [await client.receive_text() for _ in kept] == [f"{n}{LARGE}" for n in kept]
            assert (socket.dropped, socket.pending) == (2, 0)
        await nothing_is_left(rooms, adapter)


async def test_a_volatile_message_skips_a_client_that_is_behind_and_no_other(
    rooms: RoomManager,
) -> None:
    sockets: list[Socket] = []
    app = app_of(member_endpoint(rooms, sockets))
    async with WebSocketClient(app) as slow, WebSocketClient(app) as quick:
        await eventually(lambda: len(rooms.rooms.get("lobby", ())) == 2)
        slow.stall()
        await rooms.to("lobby").send_text("waits")
        assert await quick.receive_text() == "waits"
        await rooms.to("lobby").volatile.send_text("typing")
        assert await quick.receive_text() == "typing"
        assert [socket.dropped for socket in sockets] == [1, 0]
        slow.resume()
        await rooms.to("lobby").send_text("last")
        assert await slow.receive_until("last") == ["waits"]


async def test_sends_and_broadcasts_arrive_in_the_order_they_were_made(rooms: RoomManager) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            await socket.join("lobby")
            for number in range(0, 300, 3):
                await rooms.to("lobby").send_text(str(number))
                await socket.send_text(str(number + 1))
                await rooms.to(socket.sid).send_text(str(number + 2))
            await until_gone(socket)

    async with WebSocketClient(app_of(endpoint)) as client:
        assert await client.receive_until("299") == [str(number) for number in range(299)]


async def test_sends_wait_in_line_behind_broadcasts_while_the_client_does_not_read(
    rooms: RoomManager,
) -> None:
    sockets: list[Socket] = []
    async with WebSocketClient(app_of(member_endpoint(rooms, sockets))) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [socket] = sockets
        client.stall()
        sends = []
        for number in range(0, 10, 2):
            await rooms.to("lobby").send_text(str(number))
            sends.append(asyncio.ensure_future(socket.send_text(str(number + 1))))
            await asyncio.sleep(0)
        assert not any(send.done() for send in sends)
        client.resume()
        await asyncio.gather(*sends)
        assert [await client.receive_text() for _ in range(10)] == [str(n) for n in range(10)]


async def test_a_send_that_waits_for_a_client_that_goes_is_a_disconnect(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    sockets: list[Socket] = []
    async with WebSocketClient(app_of(member_endpoint(rooms, sockets))) as client:
        await eventually(lambda: "lobby" in rooms.rooms)
        [socket] = sockets
        client.stall()
        sends = [asyncio.ensure_future(socket.send_text(str(number))) for number in range(3)]
        await asyncio.sleep(0)
        client.leave(1006)
        for send in sends:
            with pytest.raises(WebSocketDisconnect):
                await send
        await client.wait_ended()
    await nothing_is_left(rooms, adapter)


async def test_a_sender_without_a_pause_closes_nobody_who_reads_however_short_its_messages(
    adapter: FakeAdapter,
) -> None:
    policy = OutboxPolicy(max_bytes=32 * ENTRY_BYTES)
    async with RoomManager(adapter, outbox=policy) as rooms, Member(rooms, "lobby") as member:
        for _ in range(500):
            await rooms.to("lobby").local.send_text("")
            assert member.socket.pending <= policy.max_bytes // 2
        assert [await member.receive_text() for _ in range(500)] == [""] * 500
        assert member.socket.dropped == 0
