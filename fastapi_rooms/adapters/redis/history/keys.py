"""The names of what Redis keeps of a room: pure.

    {prefix}:meta:{room}     a hash: the epoch, and the offset and tag of the last message
    {prefix}:stream:{room}   a stream of messages, whose ids are `offset-tag`
    {prefix}:sent:{room}:tag what has become of an emitter's message, for a while

The braces around the room are literal: in a cluster all are of one slot, as whatever stands
between the first `{` and the next `}` decides on it, and that is the same in all.
"""

from __future__ import annotations

from typing import NamedTuple


class Keys(NamedTuple):
    """The keys of one room."""

    meta: bytes
    stream: bytes


def keys_of(prefix: bytes, name: bytes) -> Keys:
    """The keys of the room with this name."""
    return Keys(b"%b:meta:{%b}" % (prefix, name), b"%b:stream:{%b}" % (prefix, name))


def sent_key(prefix: bytes, name: bytes, tag: int) -> bytes:
    """The key of one message that an emitter sends to the room with this name."""
    return b"%b:sent:{%b}:%d" % (prefix, name, tag)
