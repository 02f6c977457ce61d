"""What rooms have, as workers tell emitters, the command line and edges: pure.

    {prefix}:declared   a hash:
        history namespace#pattern    {"form": 1, "size": 100, "ttl": 300.0, "sign": "…"}
        presence namespace#pattern   {"form": 1, "grace": 10.0, "sign": "…"}

Every worker that has declared something writes it at its start, after each reconnect, and from time
to time. Where two versions of an application run at once, the hash has the patterns of both, and of
a pattern that both have, what was written last.

The sign is another one each time. A worker that has seen the same for long removes the field: no
worker of that version is left. So nobody's clock is compared with anybody else's. When none is left
of any, the key expires.

The form is counted up when what is written would be misread by who knows only the last one; they
take it for nothing declared. What a newer version adds without that is passed over.

What is read was written by whoever may write to Redis: what does not fit is no declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi_rooms.adapters.declarations import (
    STALE,
    Declaration,
    HistoryDeclaration,
    PresenceDeclaration,
)
from fastapi_rooms.adapters.history import Retention
from fastapi_rooms.core.checks import check_count, check_not_negative, check_positive
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.names import MAX_NAME_BYTES, check_namespace
from fastapi_rooms.core.patterns import check_pattern
from fastapi_rooms.core.position import MAX_OFFSET
from fastapi_rooms.errors import UsageError

KEY_TTL = 24 * 3600 * 1000
"""Milliseconds that declarations outlive the last worker: what is sent by night is kept, too."""

MAX_DECLARATIONS = 10_000
"""More are not believed: no application has as many."""

FORM = 1
"""That of what is written, and the only one that is read."""

_HISTORY, _PRESENCE = "history", "presence"
_MAX_FIELD = len("presence ") + 2 * MAX_NAME_BYTES + 2
_MAX_VALUE = 200
_MAX_SECONDS = 10.0**12


def key_of(prefix: bytes) -> bytes:
    """The key of the hash."""
    return b"%b:declared" % prefix


def fields_of(declarations: Iterable[Declaration], sign: str) -> dict[bytes, bytes]:
    """What a worker writes: fields and values."""
    return dict(_field_of(each, sign) for each in declarations)


def _field_of(declaration: Declaration, sign: str) -> tuple[bytes, bytes]:
    value: dict[str, object] = {"form": FORM}
    if isinstance(declaration, HistoryDeclaration):
        kind = _HISTORY
        value |= declaration.retention._asdict()
    else:
        kind = _PRESENCE
        value["grace"] = declaration.grace
    field = f"{kind} {declaration.namespace}#{declaration.pattern}"
    return field.encode(), WIRE_JSON.dumps({**value, "sign": sign})


def items_of(reply: Any) -> dict[bytes, bytes]:
    """The fields and values in a reply to HGETALL, of whatever protocol."""
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=False))
    if not isinstance(reply, Mapping):
        return {}
    return {
        field: value
        for field, value in reply.items()
        if isinstance(field, bytes) and isinstance(value, bytes)
    }


def parse(reply: Any) -> Iterator[Declaration]:
    """The declarations in a reply to HGETALL. Raises `ValueError` if they are too many."""
    items = items_of(reply)
    if len(items) > MAX_DECLARATIONS:
        raise ValueError(f"it has {len(items)} fields, of {MAX_DECLARATIONS} at most")
    for field, value in items.items():
        declaration = _declaration(field, value)
        if declaration is not None:
            yield declaration


def _declaration(field: bytes, value: bytes) -> Declaration | None:
    if len(field) > _MAX_FIELD or len(value) > _MAX_VALUE:
        return None
    try:
        kind, _, name = field.decode().partition(" ")
        namespace, _, pattern = name.partition("#")
        content = WIRE_JSON.loads(value)
        if type(content["form"]) is not int or content["form"] != FORM:
            return None
        if check_namespace(namespace) != namespace:
            return None
        if kind == _HISTORY:
            pattern, retention = check_pattern(pattern, kind, ""), _retention(content)
            return HistoryDeclaration(namespace, pattern, retention)
        if kind == _PRESENCE:
            pattern, grace = check_pattern(pattern, kind, ""), _grace(content)
            return PresenceDeclaration(namespace, pattern, grace)
    except (UsageError, ValueError, KeyError, TypeError):
        pass
    return None


def _retention(content: Any) -> Retention:
    size, ttl = content["size"], content["ttl"]
    check_count("size", size, "messages")
    check_positive("ttl", ttl)
    if size >= MAX_OFFSET or ttl > _MAX_SECONDS:
        raise ValueError(content)
    return Retention(size, ttl)


def _grace(content: Any) -> float:
    grace: float = content["grace"]
    check_not_negative("grace", grace)
    if grace > _MAX_SECONDS:
        raise ValueError(content)
    return grace


class Sightings:
    """When each declaration was first seen as it is, by the clock of whoever sees it."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[bytes, float]] = {}

    def stale(self, items: Mapping[bytes, bytes], now: float) -> list[bytes]:
        """The fields that have been the same for long. Time is in seconds."""
        seen = {}
        for field, value in items.items():
            known, since = self._seen.get(field, (b"", now))
            seen[field] = (value, since if known == value else now)
        self._seen = seen
        return [field for field, (_, since) in seen.items() if now - since >= STALE]
