"""Positions: how far somebody has got in what was sent to a recoverable room.

A room's messages are numbered from 1: the offset. The numbering has an epoch, a random name that
changes whenever the carrier has lost count. And every message has a tag, 64 bits that no other
message has, and is sent with the tag of the one before it: so messages form a chain.

The tag makes a position honest after a failover that lost writes. The new master counts on in the
same epoch and gives offsets out again, to other messages; a position with the offset of a lost one
is not a place in that chain, and can be told from one that is.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple, Self

from fastapi_rooms.types import NodeId

EPOCH_LENGTH = 16
"""Hexadecimal digits of an epoch."""

MAX_OFFSET = 2**53
"""What Redis' Lua can count to exactly: a million messages a second for 285 years."""

_TEXT = re.compile(r"([0-9a-f]{16})\.(0|[1-9][0-9]{0,15})\.([0-9a-f]{16})", re.ASCII)


class Position(NamedTuple):
    """After one message of a room, and before the next. Its text is for clients: opaque to them."""

    epoch: str
    """Which numbering the offset is of."""
    offset: int
    """The number of the last message; 0 before the first."""
    tag: int
    """The tag of that message; 0 before the first."""

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}.{self.tag:016x}"

    @classmethod
    def parse(cls, text: object) -> Self | None:
        """The position of which this is the text, or `None` if it is the text of none."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return None
        offset, tag = int(match[2]), int(match[3], 16)
        if offset > MAX_OFFSET or (offset == 0) is not (tag == 0):
            return None
        return cls(match[1], offset, tag)


def tag_of(origin: NodeId, sequence: int) -> int:
    """The tag of a message, by who sent it and its number there: the same when it is sent again."""
    digest = blake2b(b"%s %d" % (origin.encode(), sequence), digest_size=8).digest()
    return int.from_bytes(digest) or 1  # 0 is before the first message
