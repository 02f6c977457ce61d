"""Frames written to uvicorn's transport: the same bytes, in the same order, as uvicorn's own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import connect as websockets_connect

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.servers.uvicorn import connection as uvicorn_connection
from fastapi_rooms.servers.uvicorn import server as uvicorn_server
from fastapi_rooms.worker import connection as connection_module
from tests.integration.raw import Frame, RawClient, serving
from tests.integration.servers import wait_until

SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20]
IMPLEMENTATIONS = ["websockets-sansio", "wsproto"]
LOOPS = ["asyncio", "uvloop"]

pytestmark = [
    pytest.mark.parametrize("loop", LOOPS),
    pytest.mark.parametrize("ws", IMPLEMENTATIONS),
]


def numbered(frames: list[Any]) -> list[int]:
    return [int(frame.data.split()[0]) for frame in frames if not frame.is_close]


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


async def wait_for_client(socket: Socket) -> None:
    async for _ in socket.iter_text():
        pass


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

    with serving(endpoint, ws=ws, loop=loop) as port:
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


def test_the_connection_is_as_it_was_when_the_block_is_over(ws: str, loop: str) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    limits: list[tuple[int, int]] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        protocol = socket.websocket._receive.__self__  # type: ignore[attr-defined]
        hooks = {"pause_writing", "resume_writing", "connection_lost", "shutdown"}
        inside = hooks & set(vars(protocol))
        limits.append(protocol.transport.get_write_buffer_limits())
        socket._transport.stop()
        limits.append(protocol.transport.get_write_buffer_limits())
        seen.append((inside, hooks & set(vars(protocol))))

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.read_to_close()
    assert seen == [({"pause_writing", "resume_writing", "connection_lost", "shutdown"}, set())]
    assert limits == [(0, 0), (16 * 1024, 64 * 1024)]


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


Doubt = Callable[[pytest.MonkeyPatch], dict[str, Any]]


def untested_version(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(uvicorn_server, "NEWEST_UVICORN", (0, 1))
    return {}


def version_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("uvicorn.__version__", "main")
    return {}


def other_implementation(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(uvicorn_connection, "_IMPLEMENTATIONS", {})
    return {}


def wrapped_receive(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def wrap(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            async def wrapped() -> Any:
                return await receive()

            await app(scope, wrapped, send)

        return middleware

    return {"wrap": wrap}


def turned_off(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"rooms": RoomManager(direct_writes=False)}


@pytest.mark.parametrize(
    "doubt",
    [
        untested_version,
        version_that_is_no_number,
        other_implementation,
        wrapped_receive,
        turned_off,
    ],
)
def test_every_doubt_falls_back_to_asgi(
    ws: str, loop: str, doubt: Doubt, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await rooms.to("room").send_text(socket.transport)
        await wait_for_client(socket)

    with (
        serving(endpoint, ws=ws, loop=loop, **doubt(monkeypatch)) as port,
        RawClient(port) as client,
    ):
        assert client.read_frame().data == b"asgi"
