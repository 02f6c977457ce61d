"""Flow control by bytes, between an edge and a client that has channels: one direction of one.

What each message counts is its length and `MESSAGE_BYTES`. As in `link`, a message may be longer
than what is left of the window.
"""

from __future__ import annotations

from fastapi_rooms.core.link import MESSAGE_BYTES


class SendWindow:
    """How much may be sent to the other side."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size

    @property
    def may_send(self) -> bool:
        """Whether the other side has room for a message."""
        return self._left > 0

    def sent(self, size: int) -> None:
        """A message was sent, of so many bytes."""
        self._left -= size + MESSAGE_BYTES

    def credited(self, size: int) -> bool:
        """The other side has taken so much. False if it cannot have: it has not got that much."""
        self._left += size
        return self._left <= self._size


class ReceiveWindow:
    """How much the other side has sent, and may send."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self.waiting = 0
        """What came and was not taken, in bytes."""
        self._owed = 0  # what came since it was told of what was taken

    def came(self, size: int) -> bool:
        """A message came, of so many bytes. False if it was sent without having room for it."""
        fits = self._owed < self._size
        self._owed += size + MESSAGE_BYTES
        self.waiting += size + MESSAGE_BYTES
        return fits

    def took(self, size: int) -> bool:
        """A message was taken. Returns whether it is time to give credit."""
        self.waiting -= size + MESSAGE_BYTES
        self._taken += size + MESSAGE_BYTES
        return self._taken >= self._size // 2

    def credit(self) -> int:
        """The credit to give now."""
        taken, self._taken = self._taken, 0
        self._owed -= taken
        return taken
