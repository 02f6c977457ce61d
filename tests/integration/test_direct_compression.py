"""Messages that are compressed once for all of uvicorn's clients, as each kind of client reads."""

from __future__ import annotations

import asyncio
import json
import random
import socket as sockets
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import playwright
import pytest
import wsproto.events
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect as websockets_connect
from wsproto import ConnectionType, WSConnection
from wsproto.extensions import PerMessageDeflate

from fastapi_rooms import Compression, OutboxPolicy, RoomManager, Socket
from tests.integration.raw import (
    Frame,
    RawClient,
    numbered,
    on_every_uvicorn,
    serving,
    wait_for_client,
)
from tests.integration.servers import DIRECT_WEBSOCKETS, wait_until
from tests.integration.uvicorn_thread import TIMEOUT, uvicorn_thread
from tests.node import NODE

Message = str | bytes

ROOMY = OutboxPolicy(max_bytes=1 << 24)


def chat(number: int, size: int) -> str:
    """JSON that repeats itself, at distances from a few bytes to its length."""
    words = random.Random(number)
    rows: list[dict[str, Any]] = []
    text = ""
    while len(text) < size:
        rows += [{"id": words.randrange(10**6), "name": "é"} for _ in range(1 + size // 40)]
        text = json.dumps({"number": number, "rows": rows}, ensure_ascii=False)
    return text


MESSAGES: list[Message] = [
    "short",
    *[chat(number, size) for number, size in enumerate([200, 900, 5000, 60_000, 200, 300_000])],
    chat(9, 3000).encode(),
    random.Random(0).randbytes(5000),
    b"",
]

TOGETHER = [chat(7, 150_000), *(chat(number, 100) for number in range(60))]
"""The first takes its time, so that those which follow leave in one write."""


async def speak(rooms: RoomManager, socket: Socket) -> None:
    """Send each message in every way there is, and some together in one turn."""
    ways = socket.websocket, socket, rooms.to("room")
    for message in MESSAGES:
        for way in ways:
            if isinstance(message, str):
                await way.send_text(message)
            else:
                await way.send_bytes(message)
    await asyncio.gather(*map(rooms.to("room").send_text, TOGETHER))
    for way in ways:
        await way.send_text(chat(0, 200))
    await socket.websocket.close()


SPOKEN: list[Message] = [
    *[message for message in MESSAGES for _ in range(3)],
    *TOGETHER,
    *[MESSAGES[1]] * 3,
]


@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
async def test_a_client_of_websockets_reads_all_of_it(ws: str) -> None:
    with serving(speak, RoomManager(outbox=ROOMY), ws=ws) as port:
        async with websockets_connect(f"ws://127.0.0.1:{port}/ws", max_size=None) as client:
            assert client.protocol.extensions
            assert [message async for message in client] == SPOKEN
            assert client.close_code == 1000


@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
def test_a_client_of_wsproto_reads_all_of_it(ws: str) -> None:
    got: list[Message] = []
    with (
        serving(speak, RoomManager(outbox=ROOMY), ws=ws) as port,
        sockets.create_connection(("127.0.0.1", int(port)), TIMEOUT) as stream,
    ):
        client = WSConnection(ConnectionType.CLIENT)
        deflate = PerMessageDeflate()
        stream.sendall(client.send(wsproto.events.Request("test", "/ws", extensions=[deflate])))
        part: Any = None
        while not got or got[-1] != "closed":
            client.receive_data(stream.recv(1 << 16))
            for event in client.events():
                if isinstance(event, wsproto.events.Message):
                    part = event.data if part is None else part + event.data
                    if event.message_finished:
                        got.append(part if isinstance(part, str) else bytes(part))
                        part = None
                elif isinstance(event, wsproto.events.CloseConnection):
                    stream.sendall(client.send(event.response()))
                    got.append("closed")
    assert deflate.enabled()
    assert got == [*SPOKEN, "closed"]


IN_JAVASCRIPT = """
async ([url]) => {
    const socket = new WebSocket(url), messages = [];
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => {
        messages.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
    };
    await new Promise((resolve) => { socket.onclose = resolve; });
    return [socket.extensions.split(";")[0], messages];
}
"""

BY_NODE = f"""
const read = {IN_JAVASCRIPT}, [url, bundle] = process.argv.slice(1);
const print = (got) => console.log(JSON.stringify(got));
read([url]).then(print).then(() => {{
    globalThis.WebSocket = require(bundle).ws;
    return read([url]);
}}).then(print);
"""

WS = Path(playwright.__file__).parent / "driver" / "package" / "lib" / "utilsBundle.js"
"""Playwright brings Node's `ws` with it."""


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
async def test_a_browser_node_and_its_ws_read_all_of_it(ws: str, browser: Browser) -> None:
    spoken = [m if isinstance(m, str) else list(m) for m in SPOKEN]
    with serving(speak, RoomManager(outbox=ROOMY), ws=ws) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        page = await browser.new_page()
        assert await page.evaluate(IN_JAVASCRIPT, [url]) == ["permessage-deflate", spoken]
        await page.close()
        node = await asyncio.create_subprocess_exec(
            NODE, "-e", BY_NODE, url, WS, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await node.communicate()
    by_itself, by_ws = map(json.loads, said.splitlines())
    assert by_itself == by_ws == ["permessage-deflate", spoken]


@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
def test_every_window_that_can_be_negotiated_has_what_it_can_read(ws: str) -> None:
    texts = [chat(number, size) for number, size in enumerate([200, 2000, 40_000, 300_000])]
    offers = [
        f"permessage-deflate; server_max_window_bits={bits}{takeover}"
        for bits in range(9, 16)
        for takeover in ("", "; server_no_context_takeover")
    ]

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        if len(rooms.rooms["room"]) == len(offers) + 3:  # the last to come speaks
            for text in texts:
                await rooms.to("room").send_text(text)
            await asyncio.gather(*(rooms.to("room").send_text(text) for text in texts * 2))
        await wait_for_client(socket)

    with serving(endpoint, RoomManager(outbox=ROOMY), ws=ws) as port, ExitStack() as stack:
        plain = [stack.enter_context(RawClient(port)) for _ in range(2)]
        clients = [stack.enter_context(RawClient(port, deflate=True, offer=o)) for o in offers]
        clients.append(stack.enter_context(RawClient(port, deflate=True)))
        for text in texts * 3:
            assert [client.read_frame() for client in plain] == [Frame(0x81, text.encode())] * 2
            frames = [client.read_message() for client in clients]
            assert {frame.data for frame in frames} == {text.encode()}
            assert {frame.first for frame in frames[2:]} == {0xC1}


@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
def test_what_the_endpoint_sent_before_and_sends_after_stays_readable(ws: str) -> None:
    rooms = RoomManager(outbox=ROOMY)
    text = chat(1, 2000)

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for _ in range(2):
            await websocket.send_text(text)
            await websocket.send_text(text)
            async with rooms.connect(websocket) as socket:
                assert socket.transport == "uvicorn"
                async with rooms.of("/other").connect(websocket) as beside:
                    assert beside.transport == "asgi"
                    await rooms.to(socket.sid).send_text(text)
                    await beside.send_text(text)
                await socket.send_text(text)
                await websocket.send_text(text)
        await websocket.send_text(text)
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/ws", endpoint)], lifespan=rooms.lifespan)
    with (
        uvicorn_thread(app, log_level="error", ws=ws) as port,
        RawClient(port, deflate=True) as client,
    ):
        frames = [client.read_message() for _ in range(13)]
        assert client.read_frame().close_code == 1000
    assert frames == [Frame(0xC1, text.encode())] * 13


@pytest.mark.parametrize(
    "options", [{"compression": None}, {"compression": Compression(threshold=10_000)}]
)
@pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS)
def test_what_is_not_to_be_compressed_is_sent_as_it_is(ws: str, options: dict[str, Any]) -> None:
    text = chat(1, 5000)

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        for _ in range(3):
            await rooms.to("room").send_text(text)
            await socket.send_text(text)
            await socket.websocket.send_text(text)

    with (
        serving(endpoint, RoomManager(**options), ws=ws) as port,
        RawClient(port, deflate=True) as client,
    ):
        frames = [client.read_message() for _ in range(9)]
    assert [frame.first for frame in frames] == [0x81, 0x81, 0xC1] * 3
    assert {frame.data for frame in frames} == {text.encode()}


class TestOnEveryTransport:
    """What depends on how the bytes get to the kernel."""

    pytestmark = on_every_uvicorn

    def test_a_client_that_reads_slowly_gets_it_whole_and_in_order(
        self, ws: str, loop: str
    ) -> None:
        noise = [random.Random(n).randbytes(40_000).hex() for n in range(20)]
        count = 3 * len(noise)
        behind = threading.Event()

        async def endpoint(rooms: RoomManager, socket: Socket) -> None:
            for n in range(0, count, 3):
                await rooms.to("room").send_text(f"{n} {noise[n // 3]}")
                if socket.pending:
                    behind.set()
                await socket.websocket.send_text(f"{n + 1} {noise[n // 3]}")
                await socket.send_text(f"{n + 2} {noise[n // 3]}")
            await wait_for_client(socket)

        rooms = RoomManager(outbox=ROOMY)
        with (
            serving(endpoint, rooms, ws=ws, loop=loop) as port,
            RawClient(port, deflate=True) as client,
        ):
            assert behind.wait(TIMEOUT)
            frames = [client.read_message() for _ in range(count)]
        assert numbered(frames) == list(range(count))
        assert [frame.data.split()[1].decode() for frame in frames[::3]] == noise
        assert {frame.first for frame in frames} == {0xC1}

    def test_an_outbox_counts_what_is_written(self, ws: str, loop: str) -> None:
        text, count = "x" * 100_000, 50
        pending: list[int] = []

        async def endpoint(rooms: RoomManager, socket: Socket) -> None:
            while socket.pending < 300_000:  # until all before it is full
                await rooms.to("room").send_bytes(random.randbytes(100_000))
            pending.append(socket.pending)
            for _ in range(count):
                await rooms.to("room").send_text(text)
            pending.append(socket.pending)
            await rooms.to("room").send_text("end")
            await wait_for_client(socket)

        with (
            serving(endpoint, ws=ws, loop=loop) as port,
            RawClient(port, deflate=True) as client,
        ):
            wait_until(lambda: len(pending) == 2)
            frames: list[Frame] = []
            while not frames or frames[-1].data != b"end":
                frames.append(client.read_message())
        assert [frame.data for frame in frames[-1 - count : -1]] == [text.encode()] * count
        assert 0 < pending[1] - pending[0] < count * 1000
