"""The queue of messages for one socket or listener, limited in bytes by a policy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, TypeVar

from fastapi_rooms.core.checks import check_count
from fastapi_rooms.core.close_codes import TRY_AGAIN_LATER, check_close_code
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.errors import ConfigurationError

T = TypeVar("T")
W = TypeVar("W")

MIN_DISCARDED = 32
"""So many discarded entries may stay in an outbox, to be passed over, before it is tidied up."""


@dataclass(frozen=True, slots=True)
class OutboxPolicy:
    """What happens when a socket, or a listener, reads more slowly than messages arrive for it.

    A socket that has joined a room with a history is closed with 1013 whatever the policy, and
    nothing is dropped: it misses nothing when it comes again.

    Raises:
        ConfigurationError: a limit below one byte, an unknown policy, or a close code that a server
            may not send.
    """

    max_bytes: int = 1024 * 1024
    """How many bytes may be queued. An empty queue takes any message, whatever its size.

    Each message counts its length, compressed where it is, and 256 bytes, about what its place in
    the queue costs. So there is a limit on empty messages, too: with the default of 1 MiB, 4096 of
    them. Messages that leave in one write, as a busy worker joins them, have one place.
    """

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

    def without_drops(self) -> OutboxPolicy:
        """The policy of a reader that must miss nothing: it is closed, and comes again."""
        return OutboxPolicy(self.max_bytes, "close", TRY_AGAIN_LATER)


class Verdict(Enum):
    """What `Outbox.offer` did with an item."""

    QUEUED = "queued"
    DROPPED = "dropped"
    OVERFLOW = "overflow"
    """Nothing: it did not fit and the policy is `close`, so the caller has to close the reader."""


class Entry(Generic[T, W]):
    """An item's place in an outbox."""

    __slots__ = ("item", "messages", "size", "waiter")

    def __init__(self, item: T, size: int, waiter: W | None, messages: int = 1) -> None:
        self.item: T | None = item
        """The item; `None` once it is discarded."""
        self.messages = messages
        """How many messages it is."""
        self.size = size
        """How many bytes it counts; 0 once it is discarded, or has left the outbox."""
        self.waiter = waiter
        """What its sender waits for, if it waits."""


class Outbox(Generic[T, W]):
    """A first-in, first-out queue of at most `policy.max_bytes` bytes, beside awaited items.

    Every item counts its own size and `ENTRY_BYTES`. Items are `T`; what the sender of an awaited
    item waits for is a `W`, which the outbox only keeps.
    """

    __slots__ = (
        "_awaited_bytes",
        "_awaited_count",
        "_discarded",
        "_entries",
        "dropped",
        "policy",
        "size",
    )

    def __init__(self, policy: OutboxPolicy) -> None:
        self.policy = policy
        """What happens to what does not fit; it may be changed at any time."""
        self._entries: deque[Entry[T, W]] = deque()
        self._discarded = 0  # entries that are still there, and passed over
        self._awaited_count = 0
        self._awaited_bytes = 0
        self.size = 0
        """How many bytes are queued, `ENTRY_BYTES` for each item among them."""
        self.dropped = 0
        """How many messages the policy has dropped so far."""

    def __len__(self) -> int:
        return len(self._entries) - self._discarded

    def has_room(self, size: int, *, buffered: int = 0) -> bool:
        """Whether an item of so many bytes fits; `buffered` is as in `offer`."""
        return self.size + size + ENTRY_BYTES <= self.policy.max_bytes - buffered

    def offer(self, item: T, size: int, *, buffered: int = 0, messages: int = 1) -> Verdict:
        """Queue an item, or apply the policy if it does not fit.

        `buffered` is how many bytes have left this queue and are still in the transport's own
        buffer; they count towards the limit. `messages` is how many messages the item is: they
        share one place in the queue, and are dropped together.
        """
        size += ENTRY_BYTES
        limit = self.policy.max_bytes - buffered
        if self.size and self.size + size > limit:
            if self.policy.overflow == "close":
                return Verdict.OVERFLOW
            can_make_room = self._awaited_count == 0 or self._awaited_bytes + size <= limit
            if self.policy.overflow == "drop_newest" or not can_make_room:
                self.dropped += messages
                return Verdict.DROPPED
            self._drop_oldest(limit - size)
        self._entries.append(Entry(item, size, None, messages))
        self.size += size
        return Verdict.QUEUED

    def push(self, item: T, size: int, waiter: W) -> Entry[T, W]:
        """Queue an item that a caller awaits. It is never dropped, as its caller is slowed down.

        A caller that stops waiting takes it back: see `discard`.
        """
        size += ENTRY_BYTES
        entry = Entry(item, size, waiter)
        self._entries.append(entry)
        self._awaited_count += 1
        self._awaited_bytes += size
        self.size += size
        return entry

    def discard(self, entry: Entry[T, W]) -> bool:
        """Take back an item that was pushed; false if it has left the outbox already.

        It does not count as dropped.
        """
        if not entry.size:
            return False
        self._forget(entry)
        entry.item = entry.waiter = None
        self._discarded += 1
        if self._discarded > max(MIN_DISCARDED, len(self._entries) // 2):
            self._entries = deque(entry for entry in self._entries if entry.size)
            self._discarded = 0
        return True

    def pop(self) -> tuple[T, W | None]:
        """Remove and return the oldest item, and what its sender waits for.

        Raises `IndexError` if the outbox is empty.
        """
        while True:
            entry = self._entries.popleft()
            if entry.size:
                self._forget(entry)
                return entry.item, entry.waiter  # type: ignore[return-value]  # not discarded
            self._discarded -= 1

    def clear(self) -> list[tuple[T, W | None]]:
        """Remove and return all items, oldest first. They do not count as dropped."""
        items = []
        while len(self):
            items.append(self.pop())
        self._entries.clear()
        self._discarded = 0
        return items

    def _forget(self, entry: Entry[T, W]) -> None:
        """Count an entry no more."""
        self.size -= entry.size
        if entry.waiter is not None:
            self._awaited_count -= 1
            self._awaited_bytes -= entry.size
        entry.size = 0

    def _drop_oldest(self, down_to: int) -> None:
        awaited = []
        while self._entries and self.size > down_to:
            entry = self._entries.popleft()
            if entry.waiter is not None:
                awaited.append(entry)
            elif entry.size:
                self._forget(entry)
                self.dropped += entry.messages
            else:
                self._discarded -= 1
        self._entries.extendleft(reversed(awaited))
