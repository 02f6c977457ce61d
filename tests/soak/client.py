"""A WebSocket client that costs little, as there are many of them; it can stop reading."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

TIMEOUT = 30.0

_HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_MASK = bytes(4)  # which masks nothing
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Refused(Exception):
    """The server did not let the client in."""


class Client(asyncio.Protocol):
    """A connection, and what it hears: `heard` is called with each text."""

    def __init__(self, heard: Callable[[str], None]) -> None:
        self._heard = heard
        self._buffer = b""
        self._is_open = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._opened = asyncio.Event()
        self.ended = asyncio.Event()
        self.close_code: int | None = None
        self._transport: asyncio.Transport

    @classmethod
    async def connect(cls, port: int, path: str, heard: Callable[[str], None]) -> Client:
        """Connect. Raises `Refused` if the server does not accept, or not in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT):
                _, client = await loop.create_connection(lambda: cls(heard), "127.0.0.1", port)
                client._transport.write(_HANDSHAKE.format(path=path).encode())
                await client._opened.wait()
        except (OSError, TimeoutError) as error:
            raise Refused(str(error)) from None
        if not client._is_open:
            raise Refused(client._buffer.partition(b"\r\n")[0].decode())
        return client

    def send(self, *texts: str) -> None:
        """Send texts, whether or not the server reads, or is there."""
        self._write(*((_TEXT, text.encode()) for text in texts))

    async def writable(self) -> None:
        """Return when the server has read most of what was sent, or is gone."""
        await self._writable.wait()

    def close(self) -> None:
        """Say goodbye; the server ends the connection."""
        self._write((_CLOSE, struct.pack(">H", 1000)))

    def vanish(self) -> None:
        """Cut the connection without a word."""
        self._transport.abort()

    def stop_reading(self) -> None:
        """Leave what comes to the buffers on the way."""
        self._transport.pause_reading()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._transport.abort()
                return
            self._is_open, self._buffer = True, rest
            self._opened.set()
        self._take_apart()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        for event in (self._opened, self._writable, self.ended):
            event.set()

    def _write(self, *frames: tuple[int, bytes]) -> None:
        data = b""
        for opcode, payload in frames:
            assert len(payload) < 126
            data += bytes((0x80 | opcode, 0x80 | len(payload))) + _MASK + payload
        if not self.ended.is_set():
            self._transport.write(data)

    def _take_apart(self) -> None:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 2:
            size, begin = buffer[start + 1], start + 2
            if size == 126:
                if len(buffer) < begin + 2:
                    break
                (size,) = struct.unpack_from(">H", buffer, begin)
                begin += 2
            if len(buffer) < begin + size:
                break
            self._frame(buffer[start] & 0x0F, buffer[begin : begin + size])
            start = begin + size
        self._buffer = buffer[start:]

    def _frame(self, opcode: int, data: bytes) -> None:
        if opcode == _TEXT:
            self._heard(data.decode())
        elif opcode == _PING:
            self._write((_PONG, data))
        elif opcode == _CLOSE:
            self.close_code = struct.unpack(">H", data[:2])[0] if data else 1005
            self._write((_CLOSE, data[:2]))
            self._transport.close()
