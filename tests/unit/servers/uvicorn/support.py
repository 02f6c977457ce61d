"""A client's frames, and what is on the other side of uvicorn's protocol."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.utils import apply_mask

MAX_SIZE = 70_000


MASK = b"\x01\xfe\x80\x55"


def frame(opcode: int, data: bytes, *, fin: bool = True, length_bytes: int | None = None) -> bytes:
    """A client's frame, its length in 0, 2 or 8 bytes more than it needs, if so told."""
    if length_bytes is None:
        length_bytes = 0 if len(data) < 126 else 2 if len(data) < 0x10000 else 8
    short = {0: len(data), 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | opcode, 0x80 | short]) + len(data).to_bytes(length_bytes or 1)
    return head[: 2 + length_bytes] + MASK + apply_mask(data, MASK)


def text(data: str) -> bytes:
    return frame(1, data.encode())


def event(data: str | bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


ANYTHING_ELSE = {
    "half a frame": text("half")[:-1],
    "half a header": text("half")[:1],
    "half a long header": text("x" * 126)[:3],
    "the first of several frames": frame(1, b"x", fin=False),
    "a later frame": frame(0, b"x"),
    "a ping": frame(9, b""),
    "a pong": frame(10, b""),
    "a close": frame(8, b"\x03\xe8"),
    "something compressed": bytes([0xC1]) + text("x")[1:],
    "a reserved bit": bytes([0xA1]) + text("x")[1:],
    "an unknown kind": frame(3, b"x"),
    "no mask": b"\x81\x01x",
    "no mask, long": b"\x81\x7e\x00\x01x",
    "a length of 64 bits": frame(1, b"x", length_bytes=8),
    "no UTF-8": frame(1, b"\xff"),
    "a surrogate": frame(1, b"\xed\xa0\x80"),
    "too much": frame(2, bytes(11)),
}


class Wire(asyncio.Transport):
    """What is on the other side of a protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
