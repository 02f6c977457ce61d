"""An endpoint on a uvicorn of this process, and a client that sees every byte of it."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms import RoomManager, ShuttingDown, Socket
from tests.integration.servers import DIRECT_WEBSOCKETS
from tests.integration.uvicorn_thread import TIMEOUT, Port, uvicorn_thread

Endpoint = Callable[[RoomManager, Socket], Awaitable[None]]

HANDSHAKE = (
    "GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
)
DEFLATE = "Sec-WebSocket-Extensions: {offer}\r\n"

_NEGOTIATED = re.compile(r"sec-websocket-extensions: permessage-deflate(.*)")


on_every_uvicorn = [
    pytest.mark.parametrize("loop", ["asyncio", "uvloop"]),
    pytest.mark.parametrize("ws", DIRECT_WEBSOCKETS),
]
"""Marks for tests that take `loop` and `ws`, which are for `serving`."""


class Frame(NamedTuple):
    """A frame as it came: `first` is the byte with FIN, RSV bits and opcode."""

    first: int
    data: bytes

    @property
    def is_close(self) -> bool:
        return self.first & 0x0F == 8

    @property
    def close_code(self) -> int:
        (code,) = struct.unpack(">H", self.data[:2])
        return int(code)


class Inflating:
    """Decompresses with the very window that was negotiated."""

    def __init__(self, parameters: str) -> None:
        bits = re.search(r"server_max_window_bits=(\d+)", parameters)
        self._window = -int(bits[1] if bits else 15)
        self._is_emptied = "server_no_context_takeover" in parameters
        self._stream = zlib.decompressobj(self._window)

    def decompress(self, data: bytes) -> bytes:
        if self._is_emptied:
            self._stream = zlib.decompressobj(self._window)
        return self._stream.decompress(data + b"\0\0\xff\xff")


class RawClient:
    """A WebSocket client that does nothing by itself: it reads only when told to."""

    def __init__(
        self,
        port: int,
        *,
        query: str = "",
        deflate: bool = False,
        offer: str = "permessage-deflate",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(("127.0.0.1", port))
        if tls is not None:
            self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
        self._buffer = bytearray()
        handshake = HANDSHAKE.format(extra=DEFLATE.format(offer=offer) if deflate else "")
        self._socket.sendall(handshake.replace("/ws", f"/ws{query}", 1).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self._buffer = bytearray(rest)
        found = _NEGOTIATED.search(head.decode().lower())
        self._inflating = None if found is None else Inflating(found[1])

    def read_bytes(self, count: int) -> bytes:
        """Exactly `count` bytes as they came."""
        while len(self._buffer) < count:
            self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def read_frame(self) -> Frame:
        """The next frame."""
        first, size = self.read_bytes(2)
        if size == 126:
            (size,) = struct.unpack(">H", self.read_bytes(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.read_bytes(8))
        return Frame(first, self.read_bytes(size))

    def read_message(self) -> Frame:
        """The next frame, decompressed as was negotiated; its first byte still says that it was."""
        frame = self.read_frame()
        if not frame.first & 0x40:
            return frame
        assert self._inflating is not None, "compression was not negotiated"
        return Frame(frame.first, self._inflating.decompress(frame.data))

    def read_to_close(self) -> list[Frame]:
        """Every frame until a close frame, or until the connection is cut."""
        frames: list[Frame] = []
        try:
            while not frames or not frames[-1].is_close:
                frames.append(self.read_frame())
        except (EOFError, ConnectionResetError):
            pass
        return frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, opcode: int, data: bytes) -> None:
        """A masked frame of at most 125 bytes, the mask being zeros."""
        self._socket.sendall(bytes([0x80 | opcode, 0x80 | len(data), 0, 0, 0, 0]) + data)

    def send_all(self, data: bytes) -> None:
        """Whatever it is, in one write."""
        self._socket.sendall(data)

    def close(self, *, reset: bool = False) -> None:
        """Go without a word; `reset` makes the server's next write fail at once."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _receive(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise EOFError
        self._buffer += data


@contextmanager
def serving(
    endpoint: Endpoint,
    rooms: RoomManager | None = None,
    *,
    wrap: Callable[[Any], Any] = lambda app: app,
    **options: Any,
) -> Iterator[Port]:
    """Serve `endpoint` at `/ws`, inside `rooms.connect` and the room `room`.

    Gives the port. What an endpoint raises, a failed assertion above all, is raised here when the
    server stops.
    """
    manager = rooms or RoomManager()
    failures: list[Exception] = []

    async def websocket_endpoint(websocket: WebSocket) -> None:
        async with manager.connect(websocket) as member:
            await member.join("room")
            try:
                await endpoint(manager, member)
            except (WebSocketDisconnect, ShuttingDown):
                raise
            except Exception as failure:  # noqa: BLE001 -- raised below
                failures.append(failure)

    app = Starlette(routes=[WebSocketRoute("/ws", websocket_endpoint)], lifespan=manager.lifespan)
    server = uvicorn_thread(wrap(app), log_level="error", ws_ping_interval=None, **options)
    try:
        with server as port:
            yield port
    finally:
        if failures:
            raise ExceptionGroup("the endpoint failed", failures)


async def wait_for_client(socket: Socket) -> None:
    """What an endpoint does that only sends: read until the client goes."""
    async for _ in socket.iter_text():
        pass


def numbered(frames: list[Any]) -> list[int]:
    """The numbers that frames begin with; a close frame has none."""
    return [int(frame.data.split()[0]) for frame in frames if not frame.is_close]
