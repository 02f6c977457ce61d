"""One direction each way of a virtual connection: sequence numbers and flow control.

Both sides count alike. Who sends has a window of bytes, which the other side gives back as it takes
messages. A message may be longer than what is left of it, so that none is too long to be sent.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

WINDOW = 256 * 1024
"""Bytes that may be under way in one direction."""

COUNT = 2**32
"""Numbers and counts travel in four bytes, and begin anew after these; 0 is no number."""

MESSAGE_BYTES = 64
"""What each message counts besides its length, so that empty ones have a limit, too."""


class Link(Generic[T]):
    """What one side knows of a virtual connection. `T` is what it keeps of each message sent."""

    def __init__(self, window: int = WINDOW) -> None:
        self._half = window // 2
        self._left = window
        self._out = 0
        self._in = 0
        self._unacknowledged: deque[tuple[T, int]] = deque()
        self._acknowledged = 0
        self._taken_bytes = 0
        self._taken_messages = 0
        self.taken = 0
        """How many messages of the other side were taken here, modulo `COUNT`."""
        self._waiting = 0  # bytes that came and were not taken
        self._limit = window

    def number(self) -> int:
        """The sequence number of the next frame to send."""
        self._out = _next(self._out)
        return self._out

    def follows(self, sequence: int) -> bool:
        """Whether a frame that came is the next one. If not, something was missed."""
        if sequence != _next(self._in):
            return False
        self._in = sequence
        return True

    @property
    def may_send(self) -> bool:
        """Whether the other side has room for a message."""
        return self._left > 0

    def sent(self, message: T, size: int) -> None:
        """A message was sent, of so many bytes."""
        cost = size + MESSAGE_BYTES
        self._left -= cost
        self._unacknowledged.append((message, cost))

    def withdraw(self) -> None:
        """What was sent last has reached nobody."""
        _, cost = self._unacknowledged.pop()
        self._left += cost

    def credited(self, size: int, messages: int) -> bool:
        """The other side took messages. False if it cannot have, as it has not got so many."""
        if messages > len(self._unacknowledged):
            return False
        cost = sum(self._unacknowledged.popleft()[1] for _ in range(messages))
        self._acknowledged = (self._acknowledged + messages) % COUNT
        self._left += cost
        return cost == size

    def came(self, size: int) -> bool:
        """A message came, of so many bytes. False if it was sent without having room for it."""
        fits = self._waiting < self._limit
        self._waiting += size + MESSAGE_BYTES
        return fits

    def took(self, size: int) -> tuple[int, int] | None:
        """A message was taken; returns the credit to give, bytes and messages, if it is time."""
        self.taken = (self.taken + 1) % COUNT
        self._taken_bytes += size + MESSAGE_BYTES
        self._taken_messages += 1
        self._waiting -= size + MESSAGE_BYTES
        return self.credit() if self._taken_bytes >= self._half else None

    def credit(self) -> tuple[int, int] | None:
        """What was taken since the last credit, if anything."""
        if not self._taken_messages:
            return None
        credit = self._taken_bytes, self._taken_messages
        self._taken_bytes = self._taken_messages = 0
        return credit

    @property
    def owes_credit(self) -> bool:
        """Whether messages were taken since the last credit."""
        return self._taken_messages > 0

    @property
    def unacknowledged(self) -> int:
        """How many messages were sent of which it is not known that they were taken."""
        return len(self._unacknowledged)

    def not_taken(self, taken: int) -> list[T] | None:
        """What was sent and not taken, if the other side has taken so many of all; or `None`.

        `None` means that this number cannot be.
        """
        known = (taken - self._acknowledged) % COUNT
        if known > len(self._unacknowledged):
            return None
        return [message for message, _ in list(self._unacknowledged)[known:]]


def _next(number: int) -> int:
    return number % (COUNT - 1) + 1
