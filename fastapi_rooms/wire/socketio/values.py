"""Arguments of events: JSON values, and bytes anywhere among them."""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from fastapi_rooms.core.json_codec import DEFAULT_JSON, MAX_DEPTH, JsonCodec
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.errors import InvalidText, MalformedEnvelope, UsageError
from fastapi_rooms.wire.socketio import msgpack

MAX_ATTACHMENTS = 10
"""Byte strings in one event: a client disconnects when there are more (socket.io-parser 4)."""

RESERVED = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
"""Names by which an event disconnects whoever gets it (socket.io-parser 4)."""

RESERVED_FOR_SERVERS = frozenset(("connect", "connection", "new_namespace", "error"))
"""Names by which an event between servers raises in Node, or cannot be sent there."""

_PLACEHOLDER = "_placeholder"
"""What stands for bytes in an event on its way to a client: one who sends it could be anyone."""

_PROTOTYPE = "__proto__"
"""The key by which JavaScript has what an object inherits from: bytes there end a Node server, as
it then takes the object for bytes."""

_PLACEHOLDERS = (_PLACEHOLDER, _PLACEHOLDER.encode())
_PROTOTYPES = (_PROTOTYPE, _PROTOTYPE.encode())
"""As a codec of one's own may write them: keys of bytes are strings to Node."""

_BYTES = f"\0bytes {secrets.token_hex(16)}"
"""What stands for bytes while the rest becomes JSON: a key that nobody can have guessed, as
arguments may be what a client has written."""


def check_name(name: object) -> str:
    """Return the name of an event, or raise `UsageError` if clients cannot be sent it."""
    if not isinstance(name, str):
        raise UsageError(f"An event is named by a string; {name!r} is a {type(name).__name__}.")
    if name in RESERVED:
        raise UsageError(
            f"{name!r} is a name that Socket.IO keeps for itself: whoever gets such an event is "
            "disconnected. Give it another."
        )
    return str.__str__(name)


def check_server_name(name: str) -> None:
    """Raise `UsageError` for an event between servers that would raise in Node."""
    if name in RESERVED_FOR_SERVERS:
        raise UsageError(
            f"{name!r} is a name that Node servers keep for themselves: such an event would end "
            "them. Give it another."
        )


def json_values(args: tuple[Any, ...], json: JsonCodec) -> list[Any]:
    """Arguments as the JSON values that `json` makes of them, with bytes where they were.

    Raises what `json` does; `UsageError` if they are nested too deeply.
    """
    found: list[bytes] = []
    try:
        replaced = _without_bytes(list(args), found)
        values = DEFAULT_JSON.loads(Payload.of_json(replaced, json).data)
        return _with_bytes(values, found) if found else values  # type: ignore[no-any-return]  # a list
    except RecursionError:
        raise _too_deep() from None


class _Found(NamedTuple):
    """What is in an event that matters to who writes it to clients."""

    attachments: int
    """Byte strings."""
    placeholders: bool
    """Objects that look like what stands for them."""
    prototypes: bool
    """Objects with a key that JavaScript takes for what they inherit from."""


def can_have_bytes(value: Any) -> bool:
    """Whether bytes may be in a value: they are not too many, and none can be forged."""
    found = _found_in(value)
    return found.attachments <= MAX_ATTACHMENTS and not (found.attachments and found.placeholders)


def pack_event(event: list[Any], *, lossy: bool = False) -> bytes:
    """An event as MessagePack; integers of more than 64 bits are what JavaScript makes of them.

    If `lossy`, halves of surrogate pairs are replaced, and keys that JavaScript cannot have are
    left out: for messages that applications pass on from clients.

    Raises:
        InvalidText: it has half of a surrogate pair.
        UsageError: it would end Node servers, or disconnect the clients that get it, or is nested
            too deeply.
    """
    found = _found_in(event)
    if found.attachments > MAX_ATTACHMENTS:
        raise UsageError(
            f"There are {found.attachments} byte strings in this event. Socket.IO's clients "
            f"disconnect when there are more than {MAX_ATTACHMENTS}: put some together."
        )
    if found.attachments and found.placeholders:
        raise UsageError(
            f"An object with {_PLACEHOLDER!r} cannot be in an event that has bytes, too: Socket.IO "
            "writes it in their place, and clients would take it for some."
        )
    if found.prototypes and not lossy:
        raise UsageError(
            f"An object with the key {_PROTOTYPE!r} cannot be sent to Node servers: to them it is "
            "no key. With bytes in it, it would end them."
        )
    try:
        if not found.prototypes:
            return msgpack.pack(event)
    except (UnicodeEncodeError, OverflowError):
        pass
    except ValueError:
        raise _too_deep() from None
    try:
        return msgpack.pack(_repaired(event, lossy=lossy))
    except InvalidText:
        raise
    except (RecursionError, ValueError):
        raise _too_deep() from None


def _found_in(value: Any) -> _Found:
    attachments, placeholders, prototypes = 0, False, False
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, bytes | bytearray | memoryview):
            attachments += 1
        elif isinstance(each, list | tuple):
            left.extend(each)
        elif isinstance(each, dict):
            placeholders = placeholders or any(each.get(k) is True for k in _PLACEHOLDERS)
            prototypes = prototypes or any(k in each for k in _PROTOTYPES)
            left.extend(each.values())
    return _Found(attachments, placeholders, prototypes)


def received_values(values: list[Any]) -> list[Any]:
    """Arguments that came, as JSON values and bytes: keys are strings, dates are text.

    Raises `MalformedEnvelope` if they are nested too deeply.
    """
    try:
        return [_received(value, MAX_DEPTH) for value in values]
    except RecursionError:
        raise MalformedEnvelope("nested too deeply") from None


def _too_deep() -> UsageError:
    return UsageError("This event is nested too deeply to be sent.")


def _received(value: Any, depth: int) -> Any:
    if not depth:
        raise RecursionError
    match value:
        case list():
            return [_received(each, depth - 1) for each in value]
        case dict():
            return {_key(key): _received(each, depth - 1) for key, each in value.items()}
        case None | bool() | int() | float() | str() | bytes():
            return value
        case _:
            return msgpack.date_text(value.to_unix()) if msgpack.is_timestamp(value) else None


def _key(key: Any) -> str:
    match key:
        case str():
            return key
        case bytes():
            return key.decode(errors="replace")
        case bool():
            return "true" if key else "false"
        case _:
            return "null" if key is None else str(key)


def _without_bytes(value: Any, found: list[bytes]) -> Any:
    match value:
        case bytes() | bytearray() | memoryview():
            found.append(bytes(value))
            return {_BYTES: len(found) - 1}
        case list() | tuple():
            return [_without_bytes(each, found) for each in value]
        case dict():
            return {key: _without_bytes(each, found) for key, each in value.items()}
        case _:
            return value


def _with_bytes(value: Any, found: list[bytes]) -> Any:
    match value:
        case dict():
            if (place := value.get(_BYTES)) is not None and len(value) == 1:
                return found[place]
            return {key: _with_bytes(each, found) for key, each in value.items()}
        case list():
            return [_with_bytes(each, found) for each in value]
        case _:
            return value


def _repaired(value: Any, *, lossy: bool) -> Any:
    match value:
        case str():
            return _text(value, lossy=lossy)
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return _number(value)
        case list() | tuple():
            return [_repaired(each, lossy=lossy) for each in value]
        case dict():
            return {
                _text(_key(key), lossy=lossy): _repaired(each, lossy=lossy)
                for key, each in value.items()
                if _key(key) != _PROTOTYPE
            }
        case _:
            return value


def _text(text: str, *, lossy: bool) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if not lossy:
            invalid = InvalidText(*error.args)
            invalid.text = text
            raise invalid from None
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _number(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
