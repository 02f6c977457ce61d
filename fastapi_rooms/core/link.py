"""One direction each way of a virtual connection: sequence numbers and flow control.

Both sides count alike. Who sends has a window of bytes, which the other side gives back as it takes
messages. A message may be longer than what is left of it, so that none is too long to be sent. Long
messages are sent in parts (`parts`): each has its place in the window, and all of them are one
message where messages are counted.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

_Sent = tuple[T] | None
"""A message that was sent whole, or as far as its last part; `None` for an earlier part."""

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
        self._sent: deque[tuple[_Sent[T], int]] = deque()  # and not acknowledged
        self._acknowledged = 0
        self.unacknowledged = 0
        """How many messages were sent of which it is not known that they were taken."""
        self._taken_bytes = 0
        self._taken_frames = 0
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
        self._sent.append(((message,), cost))
        self.unacknowledged += 1

    def sent_part(self, size: int) -> None:
        """A part of a message was sent, but not the last one: that is `sent`."""
        cost = size + MESSAGE_BYTES
        self._left -= cost
        self._sent.append((None, cost))

    def withdraw(self, message: T) -> bool:
        """A message has reached nobody, or its last part. False if it was not sent that far."""
        for place, (sent, cost) in enumerate(self._sent):
            if sent is not None and sent[0] is message:
                del self._sent[place]
                self._left += cost
                self.unacknowledged -= 1
                return True
        return False

    def credited(self, size: int, frames: int) -> bool:
        """The other side took messages, or parts. False if it cannot have: it has not so many."""
        if frames > len(self._sent):
            return False
        cost = messages = 0
        for _ in range(frames):
            sent, each = self._sent.popleft()
            cost += each
            messages += sent is not None
        self._acknowledged = (self._acknowledged + messages) % COUNT
        self.unacknowledged -= messages
        self._left += cost
        return cost == size

    def came(self, size: int) -> bool:
        """A message or part came, of so many bytes. False if it was sent without room for it."""
        fits = self._waiting < self._limit
        self._waiting += size + MESSAGE_BYTES
        return fits

    def took(self, size: int) -> tuple[int, int] | None:
        """A message was taken; returns the credit to give, bytes and frames, if it is time."""
        self.taken = (self.taken + 1) % COUNT
        return self.took_part(size)

    def took_part(self, size: int) -> tuple[int, int] | None:
        """The same for a part of a message which is not its last."""
        self._taken_bytes += size + MESSAGE_BYTES
        self._taken_frames += 1
        self._waiting -= size + MESSAGE_BYTES
        return self.credit() if self._taken_bytes >= self._half else None

    def credit(self) -> tuple[int, int] | None:
        """What was taken since the last credit, if anything."""
        if not self._taken_frames:
            return None
        credit = self._taken_bytes, self._taken_frames
        self._taken_bytes = self._taken_frames = 0
        return credit

    @property
    def owes_credit(self) -> bool:
        """Whether something was taken since the last credit."""
        return self._taken_frames > 0

    def not_taken(self, taken: int) -> list[T] | None:
        """What was sent and not taken, if the other side has taken so many of all; or `None`.

        `None` means that this number cannot be.
        """
        known = (taken - self._acknowledged) % COUNT
        if known > self.unacknowledged:
            return None
        return [sent[0] for sent, _ in self._sent if sent is not None][known:]


def _next(number: int) -> int:
    return number % (COUNT - 1) + 1
