"""The queue of messages for one socket or listener, limited in bytes by a policy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, NamedTuple, TypeVar

from fastapi_rooms.core.checks import check_count
from fastapi_rooms.core.close_codes import check_close_code
from fastapi_rooms.errors import ConfigurationError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """What happens when a socket, or a listener, reads more slowly than messages arrive for it.

    Raises:
        ConfigurationError: a limit below one byte, an unknown policy, or a close code that a server
            may not send.
    """

    max_bytes: int = 1024 * 1024
    """How many bytes may be queued. An empty queue takes any message, whatever its size."""

    overflow: Literal["close", "drop_oldest", "drop_newest"] = "close"
    """What happens to a message that does not fit.

    `close` closes the reader. `drop_oldest` drops queued messages to make room, and `drop_newest`
    drops the message itself; both count what they drop.
    """

    close_code: int = 1013
    """The WebSocket close code for `close`; 1013 is "try again later"."""

    def __post_init__(self) -> None:
        check_count("OutboxPolicy.max_bytes", self.max_bytes, "bytes")
        if self.overflow not in ("close", "drop_oldest", "drop_newest"):
            raise ConfigurationError(
                f"OutboxPolicy.overflow must be 'close', 'drop_oldest' or 'drop_newest', "
                f"not {self.overflow!r}."
            )
        check_close_code(self.close_code)


class Verdict(Enum):
    """What `Outbox.offer` did with an item."""

    QUEUED = "queued"
    DROPPED = "dropped"
    OVERFLOW = "overflow"
    """Nothing: it did not fit and the policy is `close`, so the caller has to close the reader."""


class _Entry(NamedTuple, Generic[T]):
    item: T
    size: int
    awaited: bool


class Outbox(Generic[T]):
    """A first-in, first-out queue of at most `policy.max_bytes` bytes, beside awaited items."""

    __slots__ = ("_awaited_bytes", "_awaited_count", "_entries", "_policy", "dropped", "size")

    def __init__(self, policy: OutboxPolicy) -> None:
        self._policy = policy
        self._entries: deque[_Entry[T]] = deque()
        self._awaited_count = 0
        self._awaited_bytes = 0
        self.size = 0
        """How many bytes are queued."""
        self.dropped = 0
        """How many items the policy has dropped so far."""

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, item: T, size: int, *, buffered: int = 0) -> Verdict:
        """Queue an item, or apply the policy if it does not fit.

        `buffered` is how many bytes have left this queue and are still in the transport's own
        buffer; they count towards the limit.
        """
        limit = self._policy.max_bytes - buffered
        if self._entries and self.size + size > limit:
            if self._policy.overflow == "close":
                return Verdict.OVERFLOW
            can_make_room = self._awaited_count == 0 or self._awaited_bytes + size <= limit
            if self._policy.overflow == "drop_newest" or not can_make_room:
                self.dropped += 1
                return Verdict.DROPPED
            self._drop_oldest(limit - size)
        self._entries.append(_Entry(item, size, awaited=False))
        self.size += size
        return Verdict.QUEUED

    def push(self, item: T, size: int) -> None:
        """Queue an item that a caller awaits. It is never dropped, as its caller is slowed down."""
        self._entries.append(_Entry(item, size, awaited=True))
        self._awaited_count += 1
        self._awaited_bytes += size
        self.size += size

    def pop(self) -> T:
        """Remove and return the oldest item. Raises `IndexError` if the queue is empty."""
        entry = self._entries.popleft()
        self.size -= entry.size
        if entry.awaited:
            self._awaited_count -= 1
            self._awaited_bytes -= entry.size
        return entry.item

    def clear(self) -> list[T]:
        """Remove and return all items, oldest first. They do not count as dropped."""
        items = [entry.item for entry in self._entries]
        self._entries.clear()
        self.size = self._awaited_count = self._awaited_bytes = 0
        return items

    def _drop_oldest(self, down_to: int) -> None:
        awaited = []
        while self._entries and self.size > down_to:
            entry = self._entries.popleft()
            if entry.awaited:
                awaited.append(entry)
            else:
                self.size -= entry.size
                self.dropped += 1
        self._entries.extendleft(reversed(awaited))
