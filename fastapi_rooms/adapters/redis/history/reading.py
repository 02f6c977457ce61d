"""How a room is read, and what may be believed of what comes: pure.

The room's end is read before its messages, so what has been sent in between is beyond the end, and
left out. It takes no transaction: a Redis that is out of memory would refuse one.

What comes is parsed strictly. What does not fit is not kept: of all messages those count that lead
up to the room's end without a hole, and none if the very last one is not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import hiredis

from fastapi_rooms.adapters.redis.history.keys import Keys
from fastapi_rooms.adapters.redis.history.script import FIELD, META_TTL
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.core.position import MAX_OFFSET, Position
from fastapi_rooms.core.room_log import Kept, Stretch

_EPOCH = re.compile(rb"[0-9a-f]{16}")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,19}")
_ID = re.compile(rb"([1-9][0-9]{0,15})-([1-9][0-9]{0,19})")
_MAX_TAG = 2**64 - 1

_FIELDS = (b"epoch", b"offset", b"tag")
_PROLONG = b"%d" % META_TTL

READ_REPLIES = 3
"""How many replies there are to `read`, the first of which matters only on a replica."""

BEGIN_REPLIES = 4
"""How many there are to `begin`."""


def read(keys: Keys, first: int) -> bytes:
    """Read the room's meta, and then its messages from that offset on; prolong the numbering."""
    return b"".join(
        (
            pack(b"PEXPIRE", keys.meta, _PROLONG),
            pack(b"HMGET", keys.meta, *_FIELDS),
            pack(b"XRANGE", keys.stream, b"%d" % first, b"+"),
        )
    )


def begin(keys: Keys, epoch: str) -> bytes:
    """Begin a numbering where there was none, unless another worker did so, and read it.

    An old stream stays, and is not believed; the first message deletes it.
    """
    return pack(b"HSETNX", keys.meta, b"epoch", epoch.encode()) + read(keys, 0)


def tops(rooms: Sequence[Keys]) -> bytes:
    """Read where each room ends."""
    return b"".join([pack(b"HMGET", keys.meta, *_FIELDS) for keys in rooms])


def forget(keys: Keys) -> bytes:
    """Forget the room's messages."""
    return pack(b"DEL", keys.stream)


def refusal_in(replies: Sequence[Any]) -> str:
    """The first error among replies; empty if there is none."""
    return next((str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)), "")


def parse_top(meta: Any) -> Position | None:
    """Where a room ends, by its meta; `None` if there is no numbering, or none that makes sense."""
    if not isinstance(meta, list) or len(meta) != len(_FIELDS):
        return None
    epoch, offset, tag = meta[0], meta[1] or b"0", meta[2] or b"0"
    if not _is(_EPOCH, epoch) or not _is(_NUMBER, offset) or not _is(_NUMBER, tag):
        return None
    position = Position(epoch.decode(), int(offset), int(tag))
    if position.offset > MAX_OFFSET or position.tag > _MAX_TAG:
        return None
    return position if (position.offset == 0) is (position.tag == 0) else None


def parse_stretch(meta: Any, entries: Any) -> Stretch[bytes] | None:
    """What has been read of a room; `None` if it has no numbering."""
    end = parse_top(meta)
    return None if end is None else Stretch(end, _messages(entries, end))


def _messages(entries: Any, end: Position) -> list[Kept[bytes]]:
    found: list[Kept[bytes]] = []
    offset = end.offset
    listed: list[Any] = entries if isinstance(entries, list) else []
    for entry in reversed(listed):
        kept = _parse_entry(entry)
        if kept is not None and kept.offset > end.offset and not found:
            continue  # sent meanwhile
        if kept is None or kept.offset != offset or (not found and kept.tag != end.tag):
            break
        found.append(kept)
        offset -= 1
    found.reverse()
    return found


def _parse_entry(entry: Any) -> Kept[bytes] | None:
    if not isinstance(entry, list) or len(entry) != 2:
        return None
    name, fields = entry
    if isinstance(fields, dict):  # as RESP3 may have it
        fields = [part for pair in fields.items() for part in pair]
    match = _ID.fullmatch(name) if isinstance(name, bytes) else None
    if match is None or not isinstance(fields, list) or len(fields) != 2 or fields[0] != FIELD:
        return None
    if not isinstance(fields[1], bytes) or int(match[2]) > _MAX_TAG:
        return None
    return Kept(int(match[1]), int(match[2]), fields[1])


def _is(pattern: re.Pattern[bytes], value: Any) -> bool:
    return isinstance(value, bytes) and pattern.fullmatch(value) is not None
