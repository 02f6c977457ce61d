"""A question to Node servers that is under way: what they have answered, and who has not. No I/O.

Every subscriber of the channel of requests answers once, and does not say who it is. Workers of
ours are among them: they have been asked natively, and only say that they were reached.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.wire.socketio import responses
from fastapi_rooms.wire.socketio.requests import Kind

MAX_ANSWERS: Final = 4096
"""How many answers are kept."""

MAX_BYTES: Final = 256 * 1024 * 1024
"""How long they may be together; each counts its length and `ENTRY_BYTES`."""


class PendingQuestion:
    """What one question asked of some subscribers."""

    def __init__(self, request_id: str, kind: Kind) -> None:
        self.id = request_id
        self._mark = request_id.encode()
        self._kind = kind
        self._asked: int | None = None
        self._own = 0
        self._bytes = 0
        self.answers: list[Any] = []
        """What Node servers have answered, by the kind of the question."""

    def is_about(self, data: bytes) -> bool:
        """Whether it may be an answer to this: those to others need not be read."""
        return self._mark in data

    def asked(self, subscribers: int) -> None:
        """So many have got it, this worker among them if it subscribes to the channel."""
        self._asked = subscribers

    def reached_own(self) -> None:
        """A worker of ours has got it."""
        self._own += 1

    def take(self, data: bytes) -> bool:
        """Take an answer; false if it is to something else, or there is no room for it.

        Raises `MalformedEnvelope`.
        """
        response = responses.decode(data, self._kind)
        if response.request_id != self.id:
            return False
        if response.is_own:
            self._own += 1
            return True
        self._bytes += len(data) + ENTRY_BYTES
        if self._bytes > MAX_BYTES or len(self.answers) >= MAX_ANSWERS:
            raise MalformedEnvelope("the answers are too many, or too long")
        self.answers.append(response.value)
        return True

    @property
    def silent(self) -> int:
        """How many have got it and not answered."""
        return max((self._asked or 0) - self._own - len(self.answers), 0)

    @property
    def is_done(self) -> bool:
        """Whether nobody is left to wait for."""
        return self._asked is not None and not self.silent
