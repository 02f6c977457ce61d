"""How a room is read, and what may be believed of what comes: pure.

A room is read in parts, so that what comes at once is bounded, however long its messages are: all
of it from its end back, and what follows a position from there on. Each part begins with the last
message of the one before, which shows that it is of the same chain: a replica may have taken over
in between.

The room's end is read before its messages, so what has been sent in between is beyond the end, and
left out. It takes no transaction: a Redis that is out of memory would refuse one.

What comes is parsed strictly. What does not fit is not kept: of all messages those count that lead
up to the room's end without a hole, and none if the very last one is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import hiredis

from fastapi_rooms.adapters.redis.history.keys import Keys
from fastapi_rooms.adapters.redis.history.script import FIELD, META_TTL, PREVIOUS
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import MAX_OFFSET, Position
from fastapi_rooms.core.room_log import MAX_BYTES, Kept, Stretch, after

FIRST_PART = 16
"""Messages of the first part, of whose length nothing is known. Each of the following has at most
eight times as many as the one before, and not more than may still be read if all are as long as the
longest of that."""

_GROWTH = 8

_EPOCH = re.compile(rb"[0-9a-f]{16}")
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,19}")
_ID = re.compile(rb"([1-9][0-9]{0,15})-([1-9][0-9]{0,19})")
_MAX_TAG = 2**64 - 1

_FIELDS = (b"epoch", b"offset", b"tag")
_PROLONG = b"%d" % META_TTL


class _Entry(NamedTuple):
    """What a stream keeps of a message."""

    kept: Kept[bytes]
    previous: int | None
    """The tag of the message before, if it is the first of a stream."""

    @property
    def cost(self) -> int:
        return len(self.kept.item) + ENTRY_BYTES


class Reading:
    """A room that is being read.

    Args:
        keys: the room's.
        since: a position; `None` to read all, from the end back.
    """

    replies = 3
    """How many there are to a question, the first of which matters only on a replica."""

    def __init__(self, keys: Keys, since: Position | None = None) -> None:
        self._keys = keys
        self._since = since
        self._top: Position | None = None
        self._entries: list[_Entry] = []  # in the order in which they are read
        self._cost = 0
        self._count = FIRST_PART
        self._is_cut = False  # not all up to the end has been read

    def question(self) -> bytes:
        """Read the room's meta, and then the next part of its messages; prolong the numbering."""
        keys, count = self._keys, b"%d" % self._count
        last = self._entries[-1].kept if self._entries else self._since or self._top
        at = b"+" if last is None else b"%d" % last.offset
        if self._since is None:
            part = pack(b"XREVRANGE", keys.stream, at, b"-", b"COUNT", count)
        else:
            part = pack(b"XRANGE", keys.stream, at, b"+", b"COUNT", count)
        meta = pack(b"HMGET", keys.meta, *_FIELDS)
        return b"".join((pack(b"PEXPIRE", keys.meta, _PROLONG), meta, part))

    def answered(self, meta: Any, listed: Any) -> bool:
        """The replies to a question have come; returns whether there is another to ask."""
        top = parse_top(meta)
        found = [_parse_entry(entry) for entry in (listed if isinstance(listed, list) else ())]
        is_first, is_full = not self._entries, len(found) == self._count
        if not is_first:
            if not found or top is None or found[0] != self._entries[-1]:
                self._is_cut = True  # it is another chain, or forgotten: what there is counts
                return False
            del found[0]
        if self._since is None:
            was_known, self._top = self._top is not None, self._top or top
            is_open = self._take_back(found)
            if is_open and not self._entries:  # all of it was sent meanwhile
                return is_full and not was_known
        else:
            self._top = top
            is_open = top is not None and self._take_on(found, top) and self._leads_on(top)
        longest = max((entry.cost for entry in found if entry is not None), default=MAX_BYTES)
        left = (MAX_BYTES - self._cost) // longest
        self._count = 1 + min(max(left, 1), _GROWTH * self._count)
        return is_open and is_full and bool(self._entries)

    def stretch(self) -> Stretch[bytes] | None:
        """What has been read; `None` if the room has no numbering."""
        top, entries = self._top, self._entries
        if top is None:
            return None
        if self._since is None:
            entries = entries[::-1]
        else:
            while entries and entries[-1].kept.offset > top.offset:  # sent meanwhile
                entries.pop()
            last = entries[-1].kept[:2] if entries else (0, 0)
            if last != top[1:] and not (self._is_cut and last[0] < top.offset):
                entries = []
        previous = entries[0].previous if entries else None
        return Stretch(top, [entry.kept for entry in entries], previous)

    def _take_back(self, found: Iterable[_Entry | None]) -> bool:
        """Take what leads up to the end; returns whether what is before that may be taken, too."""
        top, entries = self._top, self._entries
        if top is None:
            return False
        for entry in found:
            if entry is not None and not entries and entry.kept.offset > top.offset:
                continue  # sent meanwhile
            if entry is None or entry.kept.offset != top.offset - len(entries):
                return False
            if not entries and entry.kept.tag != top.tag:
                return False
            if entries and self._cost + entry.cost > MAX_BYTES:
                return False
            self._add(entry)
        return not entries or entries[-1].previous is None

    def _take_on(self, found: Iterable[_Entry | None], top: Position) -> bool:
        """Take what follows without a hole; returns whether what is behind that may be, too."""
        entries = self._entries
        for entry in found:
            if len(entries) > 1 and self._cost >= MAX_BYTES:
                self._is_cut = True
                return False
            if entry is None or (entries and entry.kept.offset != entries[-1].kept.offset + 1):
                entries.clear()
                self._cost = 0
            if entry is not None:
                self._add(entry)
        is_at_the_end = bool(entries) and entries[-1].kept.offset >= top.offset
        self._is_cut = not is_at_the_end and len(entries) > 1 and self._cost >= MAX_BYTES
        return not (is_at_the_end or self._is_cut)

    def _leads_on(self, top: Position) -> bool:
        """Whether it begins at the position, so that what follows is worth to be read."""
        assert self._since is not None
        kept = [entry.kept for entry in self._entries]
        previous = self._entries[0].previous if self._entries else None
        return self._since != top and after(Stretch(top, kept, previous), self._since) is not None

    def _add(self, entry: _Entry) -> None:
        self._entries.append(entry)
        self._cost += entry.cost


def begin(keys: Keys, epoch: str) -> bytes:
    """Begin a numbering where there was none, unless another worker did so.

    An old stream stays, and is not believed; the first message deletes it.
    """
    return pack(b"HSETNX", keys.meta, b"epoch", epoch.encode())


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


def _parse_entry(entry: Any) -> _Entry | None:
    if not isinstance(entry, list) or len(entry) != 2:
        return None
    name, fields = entry
    if isinstance(fields, dict):  # as RESP3 may have it
        fields = [part for pair in fields.items() for part in pair]
    match = _ID.fullmatch(name) if isinstance(name, bytes) else None
    if match is None or not isinstance(fields, list) or len(fields) not in (2, 4):
        return None
    if fields[0] != FIELD or not isinstance(fields[1], bytes) or int(match[2]) > _MAX_TAG:
        return None
    previous = None
    if len(fields) == 4:
        if fields[2] != PREVIOUS or not _is(_NUMBER, fields[3]) or int(fields[3]) > _MAX_TAG:
            return None
        previous = int(fields[3])
    return _Entry(Kept(int(match[1]), int(match[2]), fields[1]), previous)


def _is(pattern: re.Pattern[bytes], value: Any) -> bool:
    return isinstance(value, bytes) and pattern.fullmatch(value) is not None
