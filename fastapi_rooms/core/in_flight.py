"""How much of the messages to one worker is on its way, for all connections with it together.

A carrier keeps what a worker has not read yet, and disconnects one for whom that is too much: all
its clients are the worse for it. So there is a limit, besides the window of each connection. It is
about what has not arrived, and not about what was not taken: a client who reads slowly costs others
nothing.

Who sends says now and then, in the stream of frames itself, how much was sent so far, as a *mark*.
The other side sends each mark back as it comes. By then all that was sent before it has arrived, or
is lost for good; so nothing that is lost is taken for being under way for ever.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from fastapi_rooms.core.link import MESSAGE_BYTES

TOTAL = 6 * 1024 * 1024
"""Bytes that may be on their way to one worker from all others: Redis disconnects by default who is
8 MB behind for a minute, or 32 MB at all."""

MOST, LEAST = 2 * 1024 * 1024, 256 * 1024
"""What one of them may have of these, however few or many they are."""


def share(senders: int) -> int:
    """What each of so many may have on its way to the same worker."""
    return min(max(TOTAL // max(senders, 1), LEAST), MOST)


class InFlight:
    """What is on its way to one worker."""

    def __init__(self, limit: int = MOST) -> None:
        self._limit = limit
        self._sent = self._marked = self._arrived = 0
        self._waiting: OrderedDict[Callable[[], None], int] = OrderedDict()

    @property
    def has_room(self) -> bool:
        """Whether somebody may send a message now. Nobody may before those who wait."""
        return not self._waiting and self._sent - self._arrived < self._limit

    def sent(self, size: int) -> int | None:
        """A message is sent now; returns the mark to send before it, if it is time."""
        due = self._mark() if self._sent - self._marked >= self._limit // 2 else None
        self._sent += size + MESSAGE_BYTES
        return due

    def wait(self, size: int, go: Callable[[], None]) -> int | None:
        """Have `go` called when a message of this size may be sent, which is counted by then.

        Returns the mark to send now, where none is on its way.
        """
        self._waiting[go] = size
        return self._mark_if_none()

    def give_up(self, go: Callable[[], None]) -> None:
        """Somebody does not wait any more, if it still did."""
        self._waiting.pop(go, None)

    def arrived(self, mark: int, limit: int) -> int | None:
        """The other side has sent back a mark: those who wait may send, in the order they came.

        It says what the limit is now, as it knows how many send to it. Returns the mark to send
        then, if it is time. A mark that cannot be is ignored: some are of connections that are
        over, and whoever can publish can make more.
        """
        if not self._arrived < mark <= self._sent:
            return None
        self._arrived = mark
        self._limit = min(max(limit, LEAST), MOST)
        due = None
        while self._waiting and self._sent - self._arrived < self._limit:
            go, size = self._waiting.popitem(last=False)
            due = self.sent(size) or due
            go()
        return due or (self._mark_if_none() if self._waiting else None)

    @property
    def overdue(self) -> int | None:
        """The mark to send once more, where somebody waits: the last one may be lost."""
        return self._sent if self._waiting else None

    def _mark(self) -> int:
        self._marked = self._sent
        return self._marked

    def _mark_if_none(self) -> int | None:
        return self._mark() if self._marked <= self._arrived < self._sent else None
