"""Frames that uvicorn's transport does not take at once: what waits, and what is dropped."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.payload import Batch, Payload
from fastapi_rooms.worker import connection as connection_module
from tests.integration.raw import (
    RawClient,
    numbered,
    on_every_uvicorn,
    serving,
    wait_for_client,
)
from tests.integration.servers import wait_until

pytestmark = on_every_uvicorn


@pytest.mark.parametrize("way", ["close", "dismissal", "return"])
def test_a_client_that_is_a_little_behind_is_closed_without_being_waited_for(
    ws: str, loop: str, way: str
) -> None:
    ended = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while socket.pending == 0:
            await rooms.to("room").send_text("x" * 1_000)
        await rooms.to("room").volatile.send_text("last")  # it is not so far behind as to miss it
        assert 0 < socket.pending < 64 * 1024
        if way == "close":
            await socket.websocket.close(1000)
        elif way == "dismissal":
            await rooms.to("room").disconnect_sockets(1000)
        if way != "return":
            await wait_for_client(socket)

    async def watched(rooms: RoomManager, socket: Socket) -> None:
        try:
            await endpoint(rooms, socket)
        finally:
            ended.set()

    with serving(watched, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert ended.wait(10)
        frames = client.read_to_close()
    assert frames[-2].data == b"last"
    assert frames[-1].close_code == 1000


def test_short_messages_to_a_client_that_is_a_little_behind_soon_wait_in_the_outbox(
    ws: str, loop: str
) -> None:
    """asyncio and uvloop keep each write by itself, so not even of two bytes may there be many."""
    waiting: list[int] = []
    count = 1_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while socket.pending == 0:
            await rooms.to("room").send_text("x" * 1_000)
        for _ in range(count):
            await rooms.to("room").local.send_text("")
        waiting.append(socket.pending)
        await socket.send_text("last")
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(lambda: bool(waiting))
        sizes = [len(client.read_frame().data)]
        while sizes[-1] != len("last"):
            sizes.append(len(client.read_frame().data))
    assert sizes.count(0) == count
    assert waiting[0] > count // 2 * ENTRY_BYTES


def test_messages_that_leave_in_one_write_take_one_place_while_they_wait(
    ws: str, loop: str
) -> None:
    """A client that is a little behind is not closed for how many short messages there are."""
    count = 10_000
    waited: list[int] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while socket.pending < 100_000:
            await rooms.to("room").send_text("x" * 1_000)
        before = socket.pending
        socket._transport.write(Batch([Payload.of_text("")] * count))
        waited.append(socket.pending - before)
        await socket.send_text("last")
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(lambda: bool(waited))
        sizes = [len(client.read_frame().data)]
        while sizes[-1] != len("last"):
            sizes.append(len(client.read_frame().data))
    assert sizes.count(0) == count
    assert waited == [2 * count + ENTRY_BYTES]


def test_an_endpoints_own_sends_wait_for_a_client_that_does_not_read(ws: str, loop: str) -> None:
    sent: list[int] = []
    waits = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while socket.pending == 0:  # what the kernel does not take any more is a little of this
            await rooms.to("room").send_text("x" * 1_000)
        sending = asyncio.create_task(send_many(socket))
        for _ in range(2_000):  # turns enough for all that it would send
            await asyncio.sleep(0)
        sent.append(socket.pending)
        waits.set()
        await sending

    async def send_many(socket: Socket) -> None:
        for _ in range(1_000):
            await socket.websocket.send_text("x" * 10_000)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert waits.wait(10)
        while len(client.read_frame().data) != 10_000:
            pass
        for _ in range(999):
            assert len(client.read_frame().data) == 10_000
    assert 64 * 1024 < sent[0] < 128 * 1024


def test_what_a_client_that_pauses_missed_comes_in_order_when_it_reads_again(
    ws: str, loop: str
) -> None:
    missed, sent = threading.Event(), asyncio.Event()
    count, filler = 100, "x" * 50_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(0, count, 2):
            await rooms.to("room").send_text(f"{n} {filler}")
            await rooms.to("room").send_bytes(f"{n + 1} {filler}".encode())
        assert socket.pending > 1_000_000
        missed.set()
        await socket.receive_text()
        await socket.send_text(f"{count} ")  # waits behind all that
        assert socket.pending < 1_000_000
        sent.set()
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert missed.wait(10)
        client.send(1, b"go on")
        assert numbered([client.read_frame() for _ in range(count + 1)]) == list(range(count + 1))
    assert sent.is_set()


def test_what_waits_when_the_block_ends_still_leaves(ws: str, loop: str) -> None:
    count, filler = 60, "x" * 100_000
    pending: list[int] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(count):
            await rooms.to("room").send_text(f"{n} {filler}")
        pending.append(socket.pending)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(lambda: bool(pending))
        assert numbered([client.read_frame() for _ in range(count)]) == list(range(count))
    assert pending[0] > 1_000_000


def test_a_users_own_send_waits_behind_broadcasts_that_wait(ws: str, loop: str) -> None:
    count, filler = 60, "x" * 100_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(count):
            await rooms.to("room").send_text(f"{n} {filler}")
        await socket.websocket.send_text(f"{count} ")
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert numbered([client.read_frame() for _ in range(count + 1)]) == list(range(count + 1))


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_policy_that_drops_keeps_whole_messages_in_order(
    ws: str, loop: str, overflow: Any
) -> None:
    count, filler = 200, "x" * 50_000
    result: dict[str, int] = {}
    sent = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(count):
            await rooms.to("room").send_text(f"{n} {filler}")
        result.update(dropped=socket.dropped, pending=socket.pending)
        sent.set()
        await socket.send_text(f"{count} last")
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=500_000, overflow=overflow))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert sent.wait(10)
        got: list[int] = []
        while not got or got[-1] != count:
            got += numbered([client.read_frame()])
    assert got == sorted(set(got))
    assert 0 < result["dropped"] == count + 1 - len(got)
    assert result["pending"] <= 500_000 + len(filler) + 10
    assert (count - 1 in got) is (overflow == "drop_oldest")


def test_volatile_messages_skip_a_client_that_is_behind(ws: str, loop: str) -> None:
    skipped = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await rooms.to("room").volatile.send_text("0")
        while socket.pending < 1_000_000:
            await rooms.to("room").send_text("1 " + "x" * 100_000)
        pending = socket.pending
        await rooms.to("room").volatile.send_text("2")
        assert (socket.dropped, socket.pending) == (1, pending)
        skipped.set()
        await socket.send_text("3")
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert skipped.wait(10)
        numbers: list[int] = []
        while not numbers or numbers[-1] != 3:
            numbers += numbered([client.read_frame()])
    assert numbers[0] == 0
    assert 2 not in numbers


def test_a_client_that_never_reads_is_cut_off_and_its_endpoint_ends(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.2)
    ended: list[dict[str, Any]] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        try:
            while rooms.sids:
                await rooms.to("room").send_text("x" * 100_000)
            await wait_for_client(socket)
        finally:
            ended.append(dict(rooms.rooms))

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(lambda: bool(ended))
        frames = client.read_to_close()
    assert ended == [{}]
    assert not [frame for frame in frames if frame.is_close and frame.close_code != 1013]


def test_a_client_that_reads_again_in_time_is_told_why_it_was_closed(ws: str, loop: str) -> None:
    overflown = asyncio.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while rooms.sids:
            await rooms.to("room").send_text("x" * 100_000)
        overflown.set()
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(overflown.is_set)
        frames = client.read_to_close()
    assert frames[-1].close_code == 1013


def test_a_send_that_waits_for_a_client_that_vanishes_raises(ws: str, loop: str) -> None:
    raised: list[BaseException] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        try:
            while True:
                await socket.send_text("x" * 100_000)
                waiting.append(socket.pending)
        except WebSocketDisconnect as error:
            raised.append(error)
            raise

    waiting: list[int] = []
    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        wait_until(lambda: bool(waiting) and waiting[-1] > 0)
        client.close(reset=True)
        wait_until(lambda: bool(raised))
