"""What a client has said to its endpoint, until that reads it."""

from __future__ import annotations

from collections import deque
from typing import Any

from starlette.types import Message

from fastapi_rooms.core.link import Link
from fastapi_rooms.core.parts import Assembly
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind

_KINDS = {FrameKind.TEXT: "text", FrameKind.BYTES: "bytes"}


class Incoming:
    """The messages that wait. Those in parts count as they came, part by part."""

    def __init__(self, assembly: Assembly | None = None) -> None:
        self._waiting: deque[tuple[FrameKind, bytes, int]] = deque()
        self._assembly = assembly or Assembly()

    def __len__(self) -> int:
        """How many frames wait."""
        return len(self._waiting)

    @property
    def size(self) -> int:
        """How many bytes these frames have had."""
        return sum(size for _, _, size in self._waiting)

    def clear(self) -> None:
        """The endpoint takes nothing any more."""
        self._waiting.clear()
        self._assembly.drop()

    def came(self, kind: FrameKind, body: bytes) -> None:
        """A frame of a message has come. Raises `MalformedEnvelope`."""
        message: bytes | None = body
        if kind is FrameKind.PART:
            ended, part = wire.unpack_part(body)
            message = wire.put_together(self._assembly, part)
            kind = kind if message is None else ended
        else:
            self._assembly.drop()
        if kind is FrameKind.TEXT and message is not None:
            _check_text(message)
        self._waiting.append((kind, message or b"", len(body)))

    def take(self, link: Link[Any]) -> tuple[Message | None, tuple[int, int] | None]:
        """Take what is next: a message, if it is one by now; and the credit to give, if any."""
        kind, body, size = self._waiting.popleft()
        if kind is FrameKind.PART:
            return None, link.took_part(size)
        value: Any = body.decode() if kind is FrameKind.TEXT else body
        return {"type": "websocket.receive", _KINDS[kind]: value}, link.took(size)


def _check_text(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise MalformedEnvelope("a text is not UTF-8") from error
