"""A message in the form that clients receive it: encoded and framed once for all of them.

A server's frames are not masked (RFC 6455, section 5.1), so a message is the same bytes for every
client. On connections that negotiated permessage-deflate it may be compressed or not: a bit of its
header says which it is, and an uncompressed one does not change the compression context (RFC 7692,
section 6). How one compressed frame can be for several clients: see
[fastapi_rooms.core.compression][].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any

from fastapi_rooms.core.compression import MAX_AT_ONCE, Deflate
from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.errors import InvalidText, UsageError

_FINAL_TEXT, _FINAL_BINARY, _COMPRESSED = 0x81, 0x82, 0x40
_HEADER_7, _HEADER_16, _HEADER_64 = Struct(">BB"), Struct(">BBH"), Struct(">BBQ")
"""Frame headers by the number of bits in their payload length (RFC 6455, section 5.2)."""


def frame_of(data: bytes, *, binary: bool, compressed: bool = False) -> bytes:
    """Encode a message as one unmasked frame (RFC 6455, section 5.2).

    `compressed`: whether the data is compressed (RFC 7692, section 6).
    """
    size = len(data)
    first = (_FINAL_BINARY if binary else _FINAL_TEXT) | (_COMPRESSED if compressed else 0)
    if size < 126:
        return _HEADER_7.pack(first, size) + data
    if size < 0x10000:
        return _HEADER_16.pack(first, 126, size) + data
    return _HEADER_64.pack(first, 127, size) + data


class Payload:
    """One WebSocket message, text or binary. Immutable, and shared by all its receivers."""

    __slots__ = ("_compressed", "_frame", "_text", "binary", "data", "framed")

    def __init__(self, data: bytes, *, binary: bool, text: str | None = None) -> None:
        self.data = data
        self.binary = binary
        self._text = text
        self._frame: bytes | None = None
        self._compressed: dict[int, bytes] | None = None  # frames by the bits of the window
        self.framed: Payload | None = None
        """The message as framed clients get it, if it is another and has been made."""

    @property
    def size(self) -> int:
        """How many bytes it has, as it is."""
        return len(self.data)

    @property
    def frame(self) -> bytes:
        """The message as a WebSocket frame, encoded at the first use."""
        frame = self._frame
        if frame is None:
            frame = self._frame = frame_of(self.data, binary=self.binary)
        return frame

    def frame_for(self, deflate: Deflate | None) -> bytes:
        """The frame for clients that negotiated this, compressed at the first use.

        It is the uncompressed one for those without compression, and where that gains nothing; and
        for a message that is too long to be compressed at once, unless it was by `compressing`.
        """
        if deflate is None or (window := deflate.window_for(len(self.data))) is None:
            return self.frame
        frame = None if self._compressed is None else self._compressed.get(window)
        if frame is not None:
            return frame
        if len(self.data) > MAX_AT_ONCE:
            return self.frame
        compressed = deflate.compress((self.data,), window)
        return self._keep(window, None if compressed is None else compressed[0])

    def compressing(self, deflate: Deflate | None) -> Iterator[None]:
        """The steps, of about a millisecond each, by which a long message is compressed.

        There are none where nothing is left to do.
        """
        if deflate is None or len(self.data) <= MAX_AT_ONCE:
            return
        window = deflate.window_for(len(self.data))
        if window is not None and window not in (self._compressed or ()):
            self._keep(window, (yield from deflate.compress_in_steps(self.data, window)))

    def _keep(self, window: int, compressed: bytes | None) -> bytes:
        """The frame for a window, from now on; the uncompressed one if that is not longer."""
        if self._compressed is None:
            self._compressed = {}
        frame = self._compressed[window] = (
            self.frame
            if compressed is None
            else frame_of(compressed, binary=self.binary, compressed=True)
        )
        return frame

    @property
    def text(self) -> str:
        """The message as text. Raises `UnicodeDecodeError` if its bytes are not UTF-8."""
        text = self._text
        if text is None:
            text = self._text = self.data.decode()
        return text

    @classmethod
    def of_text(cls, text: str) -> Payload:
        """A text message. Raises `InvalidText` for lone surrogates."""
        if not isinstance(text, str):
            raise TypeError(f"send_text takes a str, not {type(text).__name__}")
        try:
            return cls(text.encode(), binary=False, text=text)
        except UnicodeEncodeError as error:
            invalid = InvalidText(*error.args)
        invalid.text = text
        raise invalid

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview) -> Payload:
        """A binary message; mutable data is copied."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"send_bytes takes bytes, not {type(data).__name__}")
        return cls(bytes(data), binary=True)

    @classmethod
    def of_json(cls, value: Any, codec: JsonCodec = DEFAULT_JSON) -> Payload:
        """A text message of JSON. Raises what `dumps` does; `UsageError` if that makes no bytes."""
        data = codec.dumps(value)
        if type(data) is not bytes:
            raise UsageError(
                f"The manager's JSON codec made a {type(data).__name__} of a value. Its `dumps` "
                "has to return bytes, such as `json.dumps(value).encode()`."
            )
        return cls(data, binary=False)

    @property
    def parts(self) -> Sequence[Payload]:
        """Itself: one message, so that a payload can stand for a `Batch`."""
        return (self,)

    def asgi(self) -> dict[str, Any]:
        """The ASGI event that sends it: a new dict each time, as middleware may change it."""
        if self.binary:
            return {"type": "websocket.send", "bytes": self.data}
        return {"type": "websocket.send", "text": self.text}


class Batch:
    """Successive messages to the same members, whose frames are written at once."""

    __slots__ = ("_frames", "framed", "parts", "size")

    def __init__(self, parts: Sequence[Payload], same: Batch | None = None) -> None:
        self.parts = parts
        self.size = sum([part.size for part in parts])
        """How many bytes they have, as they are."""
        self._frames: dict[Deflate | None, bytes] = {} if same is None else same._frames
        self.framed: Batch | None = None
        """The messages as framed clients get them, once that has been made."""

    @property
    def frame(self) -> bytes:
        """The messages as WebSocket frames, encoded at the first use."""
        return self.frame_for(None)

    def frame_for(self, deflate: Deflate | None) -> bytes:
        """The frames for clients that negotiated this, compressed at the first use."""
        frame = self._frames.get(deflate)
        if frame is None:
            frame = self._frames[deflate] = self._join(deflate)
        return frame

    def _join(self, deflate: Deflate | None) -> bytes:
        """Frames that may refer to those before them, if the client keeps its window."""
        parts = self.parts
        if deflate is None or not deflate.keeps_window:
            return b"".join([part.frame_for(deflate) for part in parts])
        window = deflate.window_for(self.size)
        if window is None:
            return self.frame
        # All of them or none: what is not compressed is not in the client's window either.
        compressed = deflate.compress([part.data for part in parts], window)
        if compressed is None:
            return self.frame
        both = zip(compressed, parts, strict=True)
        return b"".join([frame_of(data, binary=p.binary, compressed=True) for data, p in both])


Outgoing = Payload | Batch
