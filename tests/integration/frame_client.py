"""A WebSocket client that reads as fast as Python can, for tests with hundreds of them."""

from __future__ import annotations

import asyncio
import struct

from tests.integration.raw import HANDSHAKE
from tests.integration.servers import Server

MASK = bytes(4)  # which masks nothing


class FrameClient(asyncio.Protocol):
    """Reads all it is sent, and takes it apart if anyone is to look at it."""

    def __init__(self, *, looks: bool) -> None:
        self._looks = looks
        self._buffer = b""
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.texts: list[str] = []
        self.close_code: int | None = None
        self.transport: asyncio.Transport

    @classmethod
    async def connect(cls, server: Server, names: str, *, looks: bool = True) -> FrameClient:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(
            lambda: cls(looks=looks), "127.0.0.1", server.port
        )
        client.transport = transport
        transport.write(HANDSHAKE.format(extra="").replace("/ws", f"/ws/{names}", 1).encode())
        async with asyncio.timeout(30):
            await client.connected.wait()
        return client

    def say(self, *texts: str) -> None:
        frames = []
        for text in texts:
            data = text.encode()
            assert len(data) < 126
            frames.append(bytes((0x81, 0x80 | len(data))) + MASK + data)
        self.transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        if self.connected.is_set() and not self._looks:
            self._buffer = (self._buffer + data)[-4:]
            return
        self._buffer += data
        if not self.connected.is_set():
            head, joined, rest = self._buffer.partition(b"joined")
            if not joined:
                return
            assert head.startswith(b"HTTP/1.1 101"), head
            self._buffer = rest
            self.connected.set()
        self._take_apart()

    def _take_apart(self) -> None:
        buffer, start = self._buffer, 0
        while len(buffer) - start >= 4:
            size, begin = buffer[start + 1], start + 2
            if size == 126:
                (size,) = struct.unpack_from(">H", buffer, begin)
                begin += 2
            if len(buffer) < begin + size:
                break
            data = buffer[begin : begin + size]
            if buffer[start] & 0x0F == 8:
                (self.close_code,) = struct.unpack(">H", data[:2])
            else:
                self.texts.append(data.decode())
            start = begin + size
        self._buffer = buffer[start:]

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._looks and self._buffer[:2] == b"\x88\x02":
            (self.close_code,) = struct.unpack(">H", self._buffer[2:])
        self.ended.set()
