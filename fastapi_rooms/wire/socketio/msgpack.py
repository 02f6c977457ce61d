"""MessagePack, by the library of that name, which is an extra: found when it is first needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from fastapi_rooms.errors import ConfigurationError, MalformedEnvelope

_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@cache
def _library() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped]  # it has no types
    except ImportError:
        raise ConfigurationError(
            "SocketIO(…) needs msgpack, which is not installed: "
            "pip install 'fastapi-rooms[socketio]'."
        ) from None
    return msgpack


def ensure_installed() -> None:
    """Raise `ConfigurationError` if the library is missing."""
    _library()


def pack(value: Any) -> bytes:
    """A value as MessagePack.

    Raises:
        UnicodeEncodeError: it holds half of a surrogate pair.
        OverflowError: it holds an integer of more than 64 bits.
        TypeError, ValueError: it holds something else that cannot be written, or is too deep.
    """
    packed: bytes = _library().packb(value)
    return packed


def unpack(data: bytes) -> Any:
    """The value that bytes stand for: all of them, and no more of it than they can hold.

    Dates are text, as JavaScript has them in JSON, or the library's `Timestamp`, which
    `values.received_values` makes text; `undefined` is `None`. Raises `MalformedEnvelope`.
    """
    try:
        return _library().unpackb(data, strict_map_key=False, timestamp=0, ext_hook=_extension)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MalformedEnvelope(f"no MessagePack: {type(error).__name__} {error}") from None


def date_text(seconds: float) -> str | None:
    """Seconds since the epoch, as JavaScript writes a date in JSON; `None` if it has no text."""
    try:
        moment = _UNIX_EPOCH + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        return None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def is_timestamp(value: object) -> bool:
    """Whether it is a date, as the library has it."""
    return isinstance(value, _library().Timestamp)


def _extension(kind: int, data: bytes) -> Any:
    """What older versions of notepack, and this one, write that MessagePack has no type for."""
    if kind == 0 and data == b"\0":
        return None  # undefined
    if kind == 0 and len(data) == 8:
        return date_text(int.from_bytes(data, signed=True) / 1000)
    if kind == 0:
        return bytes(data)  # an ArrayBuffer
    raise ValueError(f"an extension of the unknown type {kind}")
