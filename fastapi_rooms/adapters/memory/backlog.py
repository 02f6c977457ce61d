"""How much is on its way into one event loop, and how much may be."""

from __future__ import annotations

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.errors import AdapterUnavailable

MAX_BACKLOG_BYTES = 32 * 1024 * 1024
"""How much may be on its way to one adapter whose event loop is busy.

Each message counts its length and `ENTRY_BYTES`.
"""


class Backlog:
    """How many bytes are on their way into one event loop.

    The senders' threads write one of the numbers, under the lock of the bus, and the loop's own
    thread the other. So the receiving side needs no lock.
    """

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0

    def has_room(self, data: bytes) -> bool:
        """Whether a message may be added: one always may, whatever its size."""
        waiting = self.sent - self.received
        return not waiting or waiting + len(data) + ENTRY_BYTES <= MAX_BACKLOG_BYTES


def too_busy() -> AdapterUnavailable:
    """What the sender is told when there is no room."""
    return AdapterUnavailable(
        f"More than {MAX_BACKLOG_BYTES} bytes are on their way to a manager of this process, whose "
        "event loop is busy."
    )
