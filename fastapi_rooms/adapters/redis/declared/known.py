"""What a process that reads declarations now and then goes by: pure."""

from __future__ import annotations

from typing import Any

from fastapi_rooms.adapters.declarations import STALE, Declared
from fastapi_rooms.adapters.redis.declared.form import parse

READ_INTERVAL = 5.0
"""Seconds that what workers have declared counts as known."""


class Known:
    """What was read, and when it is to be read again. Times are in seconds, of any clock."""

    def __init__(self) -> None:
        self.declared = Declared()
        self.has_read = False
        """Whether it was read at all."""
        self._known_at = 0.0  # when there last was any
        self._read_at = 0.0  # when it is to be read again

    def is_due(self, now: float) -> bool:
        """Whether it is to be read."""
        return now >= self._read_at

    def doubt(self) -> None:
        """It may be another Redis the next time: read it before anything."""
        self._read_at = 0.0

    def keep(self, now: float) -> None:
        """Go by what is known for some time, as it was just read, or cannot be."""
        self._read_at = now + READ_INTERVAL

    def read(self, reply: Any, now: float) -> None:
        """Take a reply to HGETALL. Raises `ValueError` if it cannot be believed."""
        found = Declared(parse(reply))
        self.has_read = True
        # Nothing is there where Redis was emptied, too: the workers are about to tell it again.
        if found or now - self._known_at > STALE:
            self.declared, self._known_at = found, now
