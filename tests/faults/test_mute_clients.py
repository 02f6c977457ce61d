"""Clients that do not read, on a real server: what waits for them is bounded, whatever it is."""

from __future__ import annotations

import asyncio
import threading

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.core.costs import ENTRY_BYTES
from tests.integration.raw import RawClient, serving, wait_for_client

LIMIT = 256 * 1024
FILLER = "f" * 10_000

pytestmark = pytest.mark.parametrize("transport", ["uvicorn", "asgi"])


async def fall_behind(rooms: RoomManager, socket: Socket, transport: str) -> None:
    """Send until the kernel takes no more, and some of it waits in the outbox."""
    assert socket.transport == transport
    while socket.pending < 100_000:
        await rooms.to("room").send_text(FILLER)


def manager(transport: str, limit: int = LIMIT) -> RoomManager:
    return RoomManager(outbox=OutboxPolicy(max_bytes=limit), direct_writes=transport == "uvicorn")


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_mute_client_is_closed_at_its_limit_whatever_the_size_of_messages(
    transport: str, size: int
) -> None:
    sent: list[int] = []
    over = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        try:
            await fall_behind(rooms, socket, transport)
            count = 0
            while rooms.sids:
                assert socket.pending <= LIMIT
                await rooms.to("room").send_text("x" * size)
                count += 1
            sent.append(count)
        finally:
            over.set()
        await wait_for_client(socket)

    with serving(endpoint, manager(transport)) as port, RawClient(port) as client:
        assert over.wait(10)
        frames = client.read_to_close()
    assert frames[-1].close_code == 1013
    assert sent[0] <= LIMIT // (size + ENTRY_BYTES) + 1


def test_sends_that_are_cancelled_leave_nothing_and_are_never_delivered(transport: str) -> None:
    cancelled = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await fall_behind(rooms, socket, transport)
        pending = socket.pending
        for _ in range(3):
            sends = [asyncio.create_task(socket.send_text("c" * 1000)) for _ in range(1000)]
            await asyncio.sleep(0)
            assert socket.pending > 1_000_000
            for send in sends:
                send.cancel()
            await asyncio.wait(sends)
            assert socket.pending == pending
        cancelled.set()
        await socket.send_text("last")
        await wait_for_client(socket)

    with serving(endpoint, manager(transport)) as port, RawClient(port) as client:
        assert cancelled.wait(10)
        texts = [client.read_frame().data]
        while texts[-1] != b"last":
            texts.append(client.read_frame().data)
    assert set(texts) == {FILLER.encode(), b"last"}


def test_an_endpoint_that_skips_frames_in_time_keeps_a_mute_client_within_bounds(
    transport: str,
) -> None:
    skipped = threading.Event()
    frame = "s" * 50_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        behind = 0
        while behind < 50:
            try:
                await asyncio.wait_for(socket.send_text(frame), 0.001)
            except TimeoutError:
                behind += 1
            assert socket.pending <= LIMIT
        skipped.set()
        await wait_for_client(socket)

    with serving(endpoint, manager(transport)) as port, RawClient(port) as client:
        assert skipped.wait(10)
        client.read_frame()


def test_sends_that_wait_count_against_what_others_may_send(transport: str) -> None:
    results: list[object] = []
    over = threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await fall_behind(rooms, socket, transport)
        sends = [asyncio.create_task(socket.send_text("")) for _ in range(LIMIT // ENTRY_BYTES)]
        await asyncio.sleep(0)
        assert socket.pending > LIMIT
        assert not any(send.done() for send in sends)
        await rooms.to("room").send_text("one more")
        results.extend(await asyncio.gather(*sends, return_exceptions=True))
        over.set()
        await wait_for_client(socket)

    with serving(endpoint, manager(transport)) as port, RawClient(port) as client:
        assert over.wait(10)
        assert client.read_to_close()[-1].close_code == 1013
    assert all(isinstance(result, WebSocketDisconnect) for result in results)
