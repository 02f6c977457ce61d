"""What may be believed of what is read about who is present: pure.

Whoever may write to Redis may have written it. What does not fit is left out, and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hiredis

from fastapi_rooms.core.names import MAX_NAME_BYTES
from fastapi_rooms.core.presence import MAX_VERSION, Entry, Sums
from fastapi_rooms.types import NodeId, Room

SUMS_FIELDS = (b"v", b"m", b"g")

_SOCKET = re.compile(rb"s([0-9a-f]{16})(.{1,255})", re.DOTALL)
_OWN = re.compile(rb"([0-9]{1,16}) ([0-9]{1,16}) ([0-9]{1,16})")
_DIGITS = re.compile(rb"[0-9]{1,16}")
_COUNTED = (b"v", b"n", b"m", b"g", b"f", b"r")


class Fields(NamedTuple):
    """Some of the fields of a room's truth."""

    cursor: int
    """For the next of them; 0 if these are the last."""
    sockets: Sequence[tuple[NodeId, Entry]]
    users: Mapping[str, int]
    """How many sockets each has."""
    malformed: int
    """How many fields make no sense."""


def refusal_in(replies: Sequence[Any]) -> str:
    """The first refusal among replies, in Redis' words; empty if there is none."""
    return next((str(r) for r in replies if isinstance(r, hiredis.ReplyError)), "")


def number_in(reply: Any) -> int:
    """A count that is kept as text; 0 for anything else."""
    if not isinstance(reply, bytes) or _DIGITS.fullmatch(reply) is None:
        return 0
    number = int(reply)
    return number if number <= MAX_VERSION else 0


def page_in(reply: Any) -> tuple[int, list[bytes]]:
    """The cursor and the items of a reply to SSCAN; with fields and values, one after the other."""
    if not isinstance(reply, list) or len(reply) != 2:
        return 0, []
    cursor, items = reply
    if isinstance(items, dict):
        items = [part for pair in items.items() for part in pair]
    if not isinstance(items, list):
        return 0, []
    is_number = isinstance(cursor, bytes) and re.fullmatch(rb"[0-9]{1,20}", cursor)
    return int(cursor) if is_number else 0, [i if isinstance(i, bytes) else b"" for i in items]


def fields_in(reply: Any) -> Fields:
    """What a reply to HSCAN has of a room's truth."""
    cursor, items = page_in(reply)
    sockets: list[tuple[NodeId, Entry]] = []
    users: dict[str, int] = {}
    malformed = 0
    for field, value in zip(items[::2], items[1::2], strict=False):
        socket = _SOCKET.fullmatch(field)
        if field[:1] in (b"w", b"=") or field in _COUNTED:
            continue
        sid, user = _text(socket[2]) if socket else "", _text(value)
        if socket and sid and user:
            sockets.append((socket[1].decode(), Entry(sid, user)))
        elif field[:1] == b"u" and _text(field[1:]) and _DIGITS.fullmatch(value):
            users[_text(field[1:])] = int(value)
        else:
            malformed += 1
    return Fields(cursor, sockets, users, malformed)


def sums_in(meta: Any, sids: Any, gone: Any) -> Sums:
    """What a room has of a worker, by the replies to HMGET, SCARD and ZCARD."""
    fields = meta if isinstance(meta, list) and len(meta) == 4 else [None] * 4
    version, sockets, waiting = map(number_in, fields[:3])
    match = _OWN.fullmatch(fields[3]) if isinstance(fields[3], bytes) else None
    lease, count, checksum = (int(match[n]) for n in (1, 2, 3)) if match else (0, 0, 0)
    is_whole = sids == sockets and isinstance(gone, int) and gone >= waiting
    return Sums(lease, count, checksum, version, is_whole)


def names_in(items: Sequence[bytes]) -> list[bytes]:
    """Those that can be names of rooms."""
    return [n for n in items if n[:1] == b"/" and b"#" in n and len(n) <= 2 * MAX_NAME_BYTES + 1]


def room_in(name: bytes, namespace: str) -> Room:
    """The room of a namespace that has this name; empty if it is none of it."""
    own, _, room = name.partition(b"#")
    return _text(room) if own == namespace.encode() else ""


def _text(data: bytes) -> str:
    """What bytes say; empty if they cannot be a name."""
    if not 0 < len(data) <= MAX_NAME_BYTES:
        return ""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""
