"""A message as its receivers get it: encoded and framed once, whatever the number of members.

A frame from a server is not masked (RFC 6455, section 5.1), so it is the same bytes for every
client. It may be uncompressed on a connection that negotiated permessage-deflate: a frame says of
itself whether it is compressed, and one that is not leaves the compression context as it was
(RFC 7692, section 6).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

import orjson

_FINAL_TEXT, _FINAL_BINARY = 0x81, 0x82
_SHORT, _LONG, _LONGER = Struct(">BB"), Struct(">BBH"), Struct(">BBQ")


def frame_of(data: bytes, *, binary: bool) -> bytes:
    """The whole message as one unmasked frame (RFC 6455, section 5.2)."""
    size = len(data)
    first = _FINAL_BINARY if binary else _FINAL_TEXT
    if size < 126:
        return _SHORT.pack(first, size) + data
    if size < 0x10000:
        return _LONG.pack(first, 126, size) + data
    return _LONGER.pack(first, 127, size) + data


class Payload:
    """The bytes of one WebSocket message and whether they are text; immutable and shared."""

    __slots__ = ("_frame", "_text", "binary", "data")

    def __init__(self, data: bytes, *, binary: bool, text: str | None = None) -> None:
        self.data = data
        self.binary = binary
        self._text = text
        self._frame: bytes | None = None

    @property
    def frame(self) -> bytes:
        """The message as a frame on the wire, made once."""
        frame = self._frame
        if frame is None:
            frame = self._frame = frame_of(self.data, binary=self.binary)
        return frame

    @property
    def text(self) -> str:
        """The message as text. Raises `UnicodeDecodeError` for binary data that is no UTF-8."""
        text = self._text
        if text is None:
            text = self._text = self.data.decode()
        return text

    @classmethod
    def of_text(cls, text: str) -> Payload:
        """A text message. Raises `UnicodeEncodeError` for a lone surrogate, which UTF-8 has not."""
        if not isinstance(text, str):
            raise TypeError(f"send_text takes a str, not {type(text).__name__}")
        return cls(text.encode(), binary=False, text=text)

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview) -> Payload:
        """A binary message; a copy is taken of what could still change."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"send_bytes takes bytes, not {type(data).__name__}")
        return cls(bytes(data), binary=True)

    @classmethod
    def of_json(cls, value: Any) -> Payload:
        """A text message of JSON, by orjson. Raises `TypeError` for what JSON cannot say."""
        return cls(orjson.dumps(value), binary=False)

    @property
    def parts(self) -> Sequence[Payload]:
        """Itself: one message, where a `Batch` has several."""
        return (self,)

    def asgi(self) -> dict[str, Any]:
        """The ASGI event that sends it; a new one each time, as middleware may write into it."""
        if self.binary:
            return {"type": "websocket.send", "bytes": self.data}
        return {"type": "websocket.send", "text": self.text}


class Batch:
    """Messages for the same members, one after the other, whose frames leave in one write."""

    __slots__ = ("frame", "parts")

    def __init__(self, parts: Sequence[Payload]) -> None:
        self.parts = parts
        self.frame = b"".join([part.frame for part in parts])


Outgoing = Payload | Batch
