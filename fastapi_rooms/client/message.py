"""A message as the client for Python reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.types import Room


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """One message of the server's."""

    data: str | bytes
    """The message as it came: text, or bytes."""
    room: Room | None = None
    """The room it was sent to, if that has a history. A client is not told which other room."""
    position: str | None = None
    """Where it is in that room: store it together with what you make of the message, and give it to
    `connect(positions=…)` to go on behind it."""
    codec: JsonCodec = field(default=DEFAULT_JSON, repr=False, compare=False)
    """What `json` reads by."""

    @property
    def binary(self) -> bool:
        """Whether it was sent as bytes rather than text."""
        return isinstance(self.data, bytes)

    @property
    def text(self) -> str:
        """The message as text. Raises `ValueError` for bytes that are not UTF-8."""
        return self.data if isinstance(self.data, str) else self.data.decode()

    @property
    def bytes(self) -> bytes:
        """The message as bytes; text as UTF-8."""
        return self.data if isinstance(self.data, bytes) else self.data.encode()

    def json(self) -> Any:
        """The message, read as JSON. Raises `ValueError` if it is none."""
        return self.codec.loads(self.data)
