"""Long messages between an edge and a backend, which travel in parts.

So what is under way for one client is never much more than its window, however long its messages
are. A message that is broken off is begun by nobody again: the next one says that it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PART = 128 * 1024
"""The longest piece of a message that travels at once, in bytes."""

LONGEST = 64 * 1024 * 1024
"""The longest message, in bytes: the other side holds so much for a client until it is whole."""


class Part(NamedTuple):
    """A piece of a message that is longer than `PART`."""

    begins: bool
    ends: bool
    data: bytes


def parts_of(message: bytes) -> Iterator[Part]:
    """The parts of a message, one after the other."""
    for start in range(0, len(message), PART):
        end = start + PART
        yield Part(start == 0, end >= len(message), message[start:end])


class Assembly:
    """Puts the parts of one message after the other together."""

    def __init__(self, limit: int = LONGEST) -> None:
        self._limit = limit
        self._pieces: bytearray | None = None

    def add(self, part: Part) -> bytes | None:
        """A part has come; returns the message if that is whole now.

        Whatever was not whole when another message begins is dropped. Raises `ValueError` for a
        part of no message, and where a message is too long.
        """
        if part.begins:
            self._pieces = bytearray()
        pieces = self._pieces
        if pieces is None:
            raise ValueError("a part belongs to no message")
        if len(pieces) + len(part.data) > self._limit:
            self.drop()
            raise ValueError(f"a message in parts is longer than {self._limit} bytes")
        pieces += part.data
        if not part.ends:
            return None
        self.drop()
        return bytes(pieces)

    def drop(self) -> None:
        """What is not whole by now will never be."""
        self._pieces = None
