"""A message as code without a socket reads it: plain data that a route can return."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi_rooms.core.json_codec import DEFAULT_JSON, JsonCodec
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.types import Room


class _Heard:
    """What a message was made of, where it was heard rather than made by hand: no fields of it."""

    __slots__ = ("_codec", "_payload")

    _codec: JsonCodec
    _payload: Payload

    if not TYPE_CHECKING:  # type checkers would take it that a message has any attribute

        def __getattr__(self, name: str) -> Any:
            """Called for what is not there yet: most messages are read in one way only."""
            if name == "text":
                payload = self._payload
                value = base64.b64encode(payload.data).decode() if self.binary else payload.text
            elif name == "_payload":
                text = self.text
                value = (
                    Payload.of_bytes(base64.b64decode(text, validate=True))
                    if self.binary
                    else Payload.of_text(text)
                )
            elif name == "_codec":
                value = DEFAULT_JSON
            else:
                raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
            object.__setattr__(self, name, value)
            return value


@dataclass(frozen=True, slots=True)
class RoomMessage(_Heard):
    """One message, and the room it was heard in."""

    room: Room
    """The room listened to; the first of them when the message went to several; empty when it went
    to everyone in the namespace."""
    text: str
    """The message; one that was sent as bytes in Base64, as text, and JSON, cannot hold any bytes.
    """
    binary: bool = False
    """Whether it was sent as bytes rather than text."""
    position: str | None = None
    """Where it is in a recoverable room: give it as `since` to go on behind it. `None` elsewhere.
    """

    @property
    def bytes(self) -> bytes:
        """The message as bytes; text as UTF-8."""
        return self._payload.data

    def json(self) -> Any:
        """The message, read as JSON. Raises `ValueError` if it is none."""
        return self._codec.loads(self._payload.data)


# A frozen dataclass sets its attributes by name, which takes twice as long, and there is a message
# for each that a listener hears.
_new = object.__new__
_set_room, _set_text, _set_binary, _set_position = (
    vars(RoomMessage)[name].__set__ for name in ("room", "text", "binary", "position")
)
_set_payload, _set_codec = (vars(_Heard)[name].__set__ for name in ("_payload", "_codec"))


def message_of(
    room: Room,
    payload: Payload,
    codec: JsonCodec = DEFAULT_JSON,
    position: str | None = None,
) -> RoomMessage:
    """A message that was heard in a room; `codec` is what its `json` reads by."""
    message = _new(RoomMessage)
    _set_room(message, room)
    _set_payload(message, payload)
    _set_codec(message, codec)
    _set_binary(message, payload.binary)
    _set_position(message, position)
    text = payload._text
    if text is not None:  # else it may never be asked for
        _set_text(message, text)
    return message
