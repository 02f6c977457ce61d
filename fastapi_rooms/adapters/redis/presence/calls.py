"""Calling a script that Redis may have forgotten: pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from fastapi_rooms.adapters.redis.links.link import pack


class Script:
    """A script, by its text or by the name that Redis gives it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._name = sha1(text, usedforsecurity=False).hexdigest().encode()

    def call(self, keys: Sequence[bytes], arguments: Sequence[bytes], *, whole: bool) -> bytes:
        """The command that calls it; `whole` is with its text, for a Redis without it."""
        head = (b"EVAL", self.text) if whole else (b"EVALSHA", self._name)
        return pack(*head, b"%d" % len(keys), *keys, *arguments)
