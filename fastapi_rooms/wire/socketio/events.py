"""How a Socket.IO event becomes a native message, and a native message an event: the codecs."""

from __future__ import annotations

import base64
from typing import Any, Protocol

from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.wire.socketio.values import RESERVED, can_have_bytes

MESSAGE = "message"
"""The event that Socket.IO's own `send` emits."""

_BINARY = "$binary"


class EventCodec(Protocol):
    """How events and native messages become each other: `SocketIO(codec=…)` takes your own."""

    def to_native(self, event: str, args: list[Any]) -> str | bytes | None:
        """What native clients get of an event: text, bytes, or `None` for nothing.

        The arguments are JSON values, and bytes anywhere among them.
        """

    def to_event(self, message: str | bytes) -> list[Any] | None:
        """The event that Socket.IO's clients get of a native message: its name and arguments.

        `None` if they get nothing. What it raises, the sender gets, and nobody the message.
        """


class Events:
    """The codec of a `SocketIO` that is given none.

    | Socket.IO | native message |
    |---|---|
    | `["message", bytes]` | the bytes |
    | `["message", "text"]` | the text |
    | `["message", object or array]` | its JSON |
    | any other `[name, *args]` | `{"event": name, "args": [*args]}` |

    Back it is the same table. JSON is read only where it is an object or an array, so the text `5`
    stays text. Bytes within arguments are `{"$binary": "base64"}` in a native message.

    Args:
        data: the key of the one argument, for clients that know `{"event": name, "data": value}`
            instead of a list, as NestJS' `WsAdapter` has it. An event with more arguments, or with
            none, has their list there.

    Raises:
        ConfigurationError: `data` is empty, or `event`.
    """

    def __init__(self, *, data: str | None = None) -> None:
        if data in ("", "event"):
            raise ConfigurationError(f"Events(data=…) names the key of the argument, not {data!r}.")
        self._data = data
        self._keys = {"event", "args" if data is None else data}

    def to_native(self, event: str, args: list[Any]) -> str | bytes:
        """What native clients get of an event."""
        if event == MESSAGE and len(args) == 1:
            value = args[0]
            if isinstance(value, bytes | str):
                return value
            if isinstance(value, list | dict) and not self._looks_like_event(value):
                return _json(value)
        if self._data is None:
            return _json({"event": event, "args": args})
        return _json({"event": event, self._data: args[0] if len(args) == 1 else args})

    def to_event(self, message: str | bytes) -> list[Any]:
        """The event that Socket.IO's clients get of a native message."""
        if isinstance(message, bytes):
            return [MESSAGE, message]
        if not message.lstrip(" \t\r\n").startswith(("{", "[")):
            return [MESSAGE, message]
        found: list[bytes] = []
        try:
            value = DEFAULT_JSON.loads(message)
            restored = _restored(value, found)
        except (ValueError, RecursionError):
            return [MESSAGE, message]
        if found and can_have_bytes(restored):
            value = restored
        if self._looks_like_event(value) and value["event"] not in RESERVED:
            arguments = value["args" if self._data is None else self._data]
            return [value["event"], *(arguments if self._data is None else [arguments])]
        return [MESSAGE, value]

    def _looks_like_event(self, value: Any) -> bool:
        """Whether a JSON value has the form in which events come that are no messages."""
        return (
            isinstance(value, dict)
            and value.keys() == self._keys
            and isinstance(value["event"], str)
            and (self._data is not None or isinstance(value["args"], list))
        )

    def __repr__(self) -> str:
        return "Events()" if self._data is None else f"Events(data={self._data!r})"


def _json(value: Any) -> str:
    return DEFAULT_JSON.dumps(_replaced(value)).decode()


def _replaced(value: Any) -> Any:
    """The value with something that JSON has in the place of bytes."""
    match value:
        case bytes():
            return {_BINARY: base64.b64encode(value).decode()}
        case list():
            return [_replaced(each) for each in value]
        case dict():
            return {key: _replaced(each) for key, each in value.items()}
        case _:
            return value


def _restored(value: Any, found: list[bytes]) -> Any:
    """The value with bytes where they were."""
    match value:
        case {"$binary": str(text)} if len(value) == 1:
            try:
                found.append(base64.b64decode(text, validate=True))
            except ValueError:
                return value
            return found[-1]
        case list():
            return [_restored(each, found) for each in value]
        case dict():
            return {key: _restored(each, found) for key, each in value.items()}
        case _:
            return value
