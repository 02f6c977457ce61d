"""Which rooms remember, as workers tell emitters and the command line: pure.

    {prefix}:history   a hash: `namespace#pattern` → {"size": 100, "ttl": 300.0, "sign": "…"}

Every worker that has declared something writes it at its start, after each reconnect, and from time
to time. Where two versions of an application run at once, the hash has the patterns of both, and of
a pattern that both have, what was written last.

The sign is another one each time. A worker that has seen the same for long removes the field: no
worker of that version is left. So nobody's clock is compared with anybody else's. When none is left
of any, the key expires.

What is read was written by whoever may write to Redis: what does not fit is no declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi_rooms.adapters.history import Declaration, Retention
from fastapi_rooms.core.checks import check_count, check_positive
from fastapi_rooms.core.json_codec import WIRE_JSON
from fastapi_rooms.core.names import MAX_NAME_BYTES, check_namespace
from fastapi_rooms.core.patterns import Patterns, check_pattern
from fastapi_rooms.core.position import MAX_OFFSET
from fastapi_rooms.errors import UsageError

KEY_TTL = 24 * 3600 * 1000
"""Milliseconds that declarations outlive the last worker: what is sent by night is kept, too."""

STALE = 120.0
"""Seconds after which a declaration that nobody has repeated is removed."""

MAX_DECLARATIONS = 10_000
"""More are not believed: no application has as many."""

_MAX_FIELD = 2 * MAX_NAME_BYTES + 2
_MAX_VALUE = 200
_MAX_TTL = 10.0**12


def key_of(prefix: bytes) -> bytes:
    """The key of the hash."""
    return b"%b:history" % prefix


def fields_of(declarations: Iterable[Declaration], sign: str) -> dict[bytes, bytes]:
    """What a worker writes: fields and values."""
    return {
        f"{namespace}#{pattern}".encode(): WIRE_JSON.dumps({"size": size, "ttl": ttl, "sign": sign})
        for namespace, pattern, (size, ttl) in declarations
    }


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
        namespace, _, pattern = field.decode().partition("#")
        content = WIRE_JSON.loads(value)
        size, ttl = content["size"], content["ttl"]
        check_count("size", size, "messages")
        check_positive("ttl", ttl)
        if check_namespace(namespace) != namespace or size >= MAX_OFFSET or ttl > _MAX_TTL:
            return None
        return Declaration(namespace, check_pattern(pattern, "history", ""), Retention(size, ttl))
    except (UsageError, ValueError, KeyError, TypeError):
        return None


def patterns_of(declarations: Iterable[Declaration]) -> dict[str, Patterns[Retention]]:
    """The patterns of each namespace."""
    found: dict[str, Patterns[Retention]] = {}
    for namespace, pattern, retention in declarations:
        found.setdefault(namespace, Patterns()).declare(pattern, retention)
    return found


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
