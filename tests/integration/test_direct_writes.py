"""Frames written to uvicorn's transport: the same bytes, in the same order, as uvicorn's own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trustme
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect as websockets_connect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from tests.integration.raw import (
    Frame,
    RawClient,
    numbered,
    on_every_uvicorn,
    serving,
    wait_for_client,
)

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20]

pytestmark = on_every_uvicorn


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_a_direct_frame_is_byte_for_byte_the_servers_own(ws: str, loop: str, deflate: bool) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        assert socket.transport == "uvicorn"
        for size in SIZES:
            await socket.send_text("é" * (size // 2))
            await socket.send_bytes(bytes(size))
            await rooms.to("room").send_text("é" * (size // 2))
            await rooms.to(socket.sid).send_bytes(bytes(size))
        for size in SIZES:
            for _ in range(2):
                await socket.websocket.send_text("é" * (size // 2))
                await socket.websocket.send_bytes(bytes(size))

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with (
        serving(endpoint, rooms, ws=ws, loop=loop, ws_per_message_deflate=False) as port,
        RawClient(port, deflate=deflate) as client,
    ):
        frames = [client.read_frame() for _ in range(8 * len(SIZES))]
    assert frames[: 4 * len(SIZES)] == frames[4 * len(SIZES) :]


def test_messages_of_one_turn_that_leave_in_one_write_are_frames_of_their_own(
    ws: str, loop: str
) -> None:
    members, count = 20, 100

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        if len(rooms.rooms["room"]) == members:  # the last to come speaks
            everyone = rooms.to("room")
            await asyncio.gather(*(everyone.send_text(f"{n} …") for n in range(count)))
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, ExitStack() as clients:
        for client in [clients.enter_context(RawClient(port)) for _ in range(members)]:
            frames = [client.read_frame() for _ in range(count)]
            assert frames == [Frame(0x81, f"{n} …".encode()) for n in range(count)]


def test_users_own_sends_and_broadcasts_keep_their_order(ws: str, loop: str) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(0, 300, 3):
            await rooms.to("room").send_text(str(n))
            await socket.websocket.send_text(str(n + 1))
            await socket.send_text(str(n + 2))
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert numbered([client.read_frame() for _ in range(300)]) == list(range(300))


def test_own_sends_and_broadcasts_keep_their_order_while_the_kernel_takes_only_part(
    ws: str, loop: str
) -> None:
    count, filler = 150, "x" * 70_000

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for n in range(0, count, 3):
            await rooms.to("room").send_text(f"{n} {filler}")
            await socket.websocket.send_text(f"{n + 1} {filler}")
            await socket.send_text(f"{n + 2} {filler}")
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with serving(endpoint, rooms, ws=ws, loop=loop) as port, RawClient(port) as client:
        frames = [client.read_frame() for _ in range(count)]
    assert numbered(frames) == list(range(count))
    assert {len(frame.data) for frame in frames} <= {len(filler) + n for n in (2, 3, 4)}


def test_a_client_gets_nothing_of_the_one_whose_descriptor_it_has_now(ws: str, loop: str) -> None:
    descriptors: list[int | None] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        own = str(len(descriptors))
        descriptors.append(socket._transport.fd)
        await socket.join(own)
        while socket._transport.fd is not None:  # nobody has noticed yet that the client is gone
            for room in range(len(descriptors)):
                await rooms.to(str(room)).send_text(str(room))
            await asyncio.sleep(0)

    with serving(endpoint, ws=ws, loop=loop) as port:
        for number in range(20):
            with RawClient(port) as client:
                assert {client.read_frame().data for _ in range(20)} == {b"%d" % number}
                client.close(reset=number % 2 == 0)
    assert None not in descriptors
    assert len(set(descriptors)) < len(descriptors), "none was used twice"


async def test_uncompressed_frames_between_compressed_ones_leave_both_readable(
    ws: str, loop: str
) -> None:
    texts = [f"{n} " + "the same words again and again " * 40 for n in range(200)]

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        assert socket.transport == "uvicorn"
        for text in texts:
            await rooms.to("room").send_text(text)
            await socket.websocket.send_text(text)
        await wait_for_client(socket)

    with serving(endpoint, RoomManager(compression=None), ws=ws, loop=loop) as port:
        async with websockets_connect(f"ws://127.0.0.1:{port}/ws", compression="deflate") as client:
            assert client.protocol.extensions, "compression was not negotiated"
            for text in texts:
                assert await client.recv() == text
                assert await client.recv() == text


def test_nothing_is_written_after_a_close_frame(ws: str, loop: str) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await rooms.to("room").send_text("before")
        await socket.websocket.close(4000)
        await rooms.to("room").send_text("after")
        with pytest.raises(WebSocketDisconnect):
            await socket.send_text("after")

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        before, close = client.read_frame(), client.read_frame()
        assert before.data == b"before"
        assert close.close_code == 4000
        client.send(8, close.data)
        assert client.read_to_close() == []


def test_nothing_is_written_after_the_clients_close_is_answered(ws: str, loop: str) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await socket.receive_text()
        while True:  # until the client's close has been seen by the connection, not by us
            await rooms.to("room").send_text("tick")
            await asyncio.sleep(0)
            if socket.pending == 0 and not rooms.sids:
                return
            try:
                await socket.send_text("tock")
            except WebSocketDisconnect:
                return

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.send(1, b"go")
        client.read_frame()
        client.send(8, b"\x03\xe8")
        frames = client.read_to_close()
    closes = [n for n, frame in enumerate(frames) if frame.is_close]
    assert closes == [len(frames) - 1]


def test_what_waits_does_not_follow_the_answer_to_a_clients_close(ws: str, loop: str) -> None:
    behind, refused = threading.Event(), threading.Event()

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        while socket.pending < 200_000:
            await rooms.to("room").send_text("x" * 20_000)
        waits = asyncio.create_task(socket.send_text("never"))
        await asyncio.sleep(0)
        behind.set()
        with pytest.raises(WebSocketDisconnect):
            await waits
        refused.set()

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert behind.wait(10)
        client.send(8, b"\x03\xe8")
        assert refused.wait(10), "it was not told before the client read"
        frames = []
        with suppress(EOFError, ConnectionResetError):
            while True:
                frames.append(client.read_frame())
    assert [frame.is_close for frame in frames].index(True) == len(frames) - 1


def test_it_works_over_tls(ws: str, loop: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key_file = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(key_file)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        assert socket.transport == "uvicorn"
        assert socket._transport.fd is None, "what goes to the socket itself is not encrypted"
        await rooms.to("room").volatile.send_text("-1")
        for n in range(0, 100, 2):
            await rooms.to("room").send_text(f"{n} " + "x" * 50_000)
            await socket.websocket.send_text(f"{n + 1} " + "x" * 50_000)
        await wait_for_client(socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=1 << 24))
    with (
        serving(endpoint, rooms, ws=ws, loop=loop, ssl_certfile=str(key_file)) as port,
        RawClient(port, tls=trusted) as client,
    ):
        assert numbered([client.read_frame() for _ in range(101)]) == list(range(-1, 100))
