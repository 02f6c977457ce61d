"""A message as its receivers get it: encoded once per broadcast, whatever the number of members."""

from __future__ import annotations

from typing import Any

import orjson


class Payload:
    """The bytes of one WebSocket message and whether they are text; immutable and shared."""

    __slots__ = ("_text", "binary", "data")

    def __init__(self, data: bytes, *, binary: bool) -> None:
        self.data = data
        self.binary = binary
        self._text: str | None = None

    @classmethod
    def of_text(cls, text: str) -> Payload:
        """A text message. Raises `UnicodeEncodeError` for a lone surrogate, which UTF-8 has not."""
        if not isinstance(text, str):
            raise TypeError(f"send_text takes a str, not {type(text).__name__}")
        payload = cls(text.encode(), binary=False)
        payload._text = text
        return payload

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
    def text(self) -> str:
        """The message as text. Raises `UnicodeDecodeError` for binary data that is no UTF-8."""
        if self._text is None:
            self._text = self.data.decode()
        return self._text

    def asgi(self) -> dict[str, Any]:
        """The ASGI event that sends it; a new one each time, as middleware may write into it."""
        if self.binary:
            return {"type": "websocket.send", "bytes": self.data}
        return {"type": "websocket.send", "text": self.text}
