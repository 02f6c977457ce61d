"""What waits to be written to one reader, bounded in bytes, and what happens past the bound."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, NamedTuple, TypeVar

from fastapi_rooms.core.close_codes import check_close_code
from fastapi_rooms.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """What happens to a socket, or a listener, that does not read as fast as it is written to.

    Raises:
        ConfigurationError: for a limit, policy or close code that cannot be.
    """

    max_bytes: int = 1024 * 1024
    """How many bytes may wait for one reader. One message may always wait, whatever its size."""

    overflow: Literal["close", "drop_oldest", "drop_newest"] = "close"
    """`close` gives the reader up; the other two keep it and count what it misses."""

    close_code: int = 1013
    """The WebSocket close code that `close` uses; 1013 is "try again later"."""

    def __post_init__(self) -> None:
        if self.max_bytes < 1:
            raise ConfigurationError(
                f"OutboxPolicy.max_bytes must be positive, not {self.max_bytes}."
            )
        if self.overflow not in ("close", "drop_oldest", "drop_newest"):
            raise ConfigurationError(
                f"OutboxPolicy.overflow must be 'close', 'drop_oldest' or 'drop_newest', "
                f"not {self.overflow!r}."
            )
        check_close_code(self.close_code)


class Verdict(Enum):
    """What became of an item that was offered."""

    QUEUED = "queued"
    DROPPED = "dropped"
    OVERFLOW = "overflow"
    """It would pass the bound and the policy is `close`: the reader is to be given up."""


class _Entry(NamedTuple, Generic[T]):
    item: T
    size: int
    pinned: bool


class Outbox(Generic[T]):
    """A first-in first-out queue of at most `policy.max_bytes`, counting what it dropped."""

    __slots__ = ("_entries", "_pinned", "_pinned_size", "_policy", "dropped", "size")

    def __init__(self, policy: OutboxPolicy) -> None:
        self._policy = policy
        self._entries: deque[_Entry[T]] = deque()
        self._pinned = 0
        self._pinned_size = 0
        self.size = 0
        """Bytes that wait."""
        self.dropped = 0
        """How many items the policy has dropped so far."""

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, item: T, size: int, *, held: int = 0) -> Verdict:
        """Queue an item, or do as the policy says when it does not fit.

        `held` is what the reader's transport has taken out of the queue and not delivered yet.
        """
        limit = self._policy.max_bytes - held
        if self._entries and self.size + size > limit:
            if self._policy.overflow == "close":
                return Verdict.OVERFLOW
            makes_room = self._pinned == 0 or self._pinned_size + size <= limit
            if self._policy.overflow == "drop_newest" or not makes_room:
                self.dropped += 1
                return Verdict.DROPPED
            self._drop_oldest(limit - size)
        self._entries.append(_Entry(item, size, pinned=False))
        self.size += size
        return Verdict.QUEUED

    def push(self, item: T, size: int) -> None:
        """Queue an item that somebody waits for: it is never dropped, and bounded by who waits."""
        self._entries.append(_Entry(item, size, pinned=True))
        self._pinned += 1
        self._pinned_size += size
        self.size += size

    def pop(self) -> T:
        """Take the oldest item. Raises `IndexError` when nothing waits."""
        entry = self._entries.popleft()
        self.size -= entry.size
        if entry.pinned:
            self._pinned -= 1
            self._pinned_size -= entry.size
        return entry.item

    def clear(self) -> list[T]:
        """Drop everything and return it, oldest first."""
        items = [entry.item for entry in self._entries]
        self._entries.clear()
        self.size = self._pinned = self._pinned_size = 0
        return items

    def _drop_oldest(self, down_to: int) -> None:
        pinned = []
        while self._entries and self.size > down_to:
            entry = self._entries.popleft()
            if entry.pinned:
                pinned.append(entry)
            else:
                self.size -= entry.size
                self.dropped += 1
        self._entries.extendleft(reversed(pinned))
