"""What a worker knows of a recoverable room: how far it has got, and the last messages.

Pure state. It says what to deliver, and when to read from the carrier; who owns it does both.

* A message that continues the chain is to be delivered. One that is known is dropped. Anything
  else is a hole, and the carrier has to be read.
* A read since the worker's own position either proves what was missed, which is delivered in order,
  or shows that it cannot be known any more. What came meanwhile follows.
* What cannot be delivered at once waits, and all that follows behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import Generic, NamedTuple, TypeVar

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position

T = TypeVar("T")

MAX_MEANWHILE = 1000
"""Messages that may come while the carrier is being read; after more, it is read once more."""

MAX_BYTES = 16 * 1024 * 1024
"""What the messages of a room may cost that are remembered; as much may wait to be delivered, and
as much may come while the carrier is being read."""


class Kept(NamedTuple, Generic[T]):
    """A message in its place."""

    offset: int
    tag: int
    item: T


class Stretch(NamedTuple, Generic[T]):
    """The last part of what a carrier has kept of a room.

    Where there is too much since some position, it is the first part since that: the rest is to be
    read from its end on.
    """

    top: Position
    """The end: the last message that was sent."""
    messages: Sequence[Kept[T]]
    """Successive messages, the last of which is at `top` if it is the last part."""
    before: int | None = None
    """The tag of the message before the first of these, if it is known."""


class RoomLog(Generic[T]):
    """The log of one room on one worker, from its first member to its last.

    What it knows to come next waits in it: `next` gives the first of that, and `advance` says that
    it has been delivered.

    Args:
        size: how many of the last messages the carrier keeps; as many are remembered here.
        cost: what a message costs, in bytes.
    """

    def __init__(self, size: int, cost: Callable[[T], int] = lambda _: ENTRY_BYTES) -> None:
        self.position: Position | None = None
        """Up to which everything has been delivered; `None` before the first read."""
        self.needs_read = True
        """Whether the carrier has to be read, since `position`."""
        self._is_reading = False
        self._is_all_read = False  # whether the read under way is not since a position
        self._reads_all = True
        self._size = size
        self._cost = cost
        self._ring = _Messages(cost)
        self._before: int | None = None  # the tag of the message before the first in the ring
        self._ahead = _Messages(cost)
        self._forgotten = 0  # of those that are ahead, as many are not to be remembered
        self._meanwhile: list[tuple[str, int, Kept[T]]] = []
        self._meanwhile_bytes = 0

    # Delivering.

    def next(self) -> Kept[T] | None:
        """The message to deliver next, if there is one."""
        return self._ahead[0] if self._ahead else None

    def advance(self) -> None:
        """That one has been delivered."""
        own = self.position
        assert own is not None
        message = self._ahead.popleft()
        self.position = Position(own.epoch, message.offset, message.tag)
        if self._forgotten:
            self._forgotten -= 1
        else:
            self._remember((message,), own.tag)

    # What comes.

    def receive(self, epoch: str, previous: int, message: Kept[T]) -> None:
        """A message came; `previous` is the tag of the one before it."""
        if self._is_reading:
            self._meanwhile_bytes += self._cost(message.item)
            if len(self._meanwhile) < MAX_MEANWHILE and self._meanwhile_bytes <= MAX_BYTES:
                self._meanwhile.append((epoch, previous, message))
            else:
                self.needs_read = True  # once more
        elif self.needs_read:
            pass  # the carrier had it before it came, so the read will have it, too
        elif self._follows(epoch, previous, message):
            ahead = self._ahead
            if not ahead or (len(ahead) <= self._size and ahead.bytes < MAX_BYTES):
                ahead.append(message)
            else:  # they can be read again, as long as the carrier keeps them
                self._drop_ahead()
                self.needs_read = True
        elif not self._is_known(epoch, message):
            self.needs_read = True

    # Reading.

    def refresh(self) -> None:
        """All that the carrier keeps has to be read: it may have forgotten what is known here."""
        self.needs_read = self._reads_all = True

    def is_all_being_read(self) -> bool:
        """Whether all that the carrier keeps is being read, and not what follows a position."""
        return self._is_reading and self._is_all_read

    def begin_read(self) -> Position | None:
        """The carrier is about to be read, since this position; `None` is for all that it has."""
        self._is_reading, self.needs_read = True, False
        self._is_all_read, self._reads_all = self._reads_all, False
        self._drop_ahead()  # it is in what is read
        return None if self._is_all_read else self.position

    def fail_read(self) -> None:
        """The carrier could not be read: it is to be tried again."""
        self._is_reading, self.needs_read = False, True
        self._reads_all |= self._is_all_read
        self._take_meanwhile()

    def finish_read(self, read: Stretch[T]) -> bool:
        """The carrier has been read; returns whether nothing is lost.

        If nothing is, what was missed comes next; if that is not all of it, the carrier needs to be
        read again. Else the log goes on at the carrier's end.
        """
        self._is_reading = False
        own = self.position
        missed = after(read, own) if own is not None else None
        if own is None or missed is None:
            self.position = read.top
            self._ring.clear()
            if self._is_all_read:
                self._remember(read.messages, read.before)
            else:  # what was read since a position that is gone may be any part of what is kept
                self.refresh()
        else:
            if self._is_all_read:
                self._ring.clear()
                known = len(read.messages) - len(missed)
                self._remember(islice(read.messages, known), read.before)
            self._ahead.extend(missed)
            self.needs_read |= len(missed) < read.top.offset - own.offset
        for epoch, previous, message in self._take_meanwhile():
            if epoch != read.top.epoch or message.offset > read.top.offset:
                self.receive(epoch, previous, message)
        return own is None or missed is not None

    # For those who join.

    def since(self, position: Position) -> list[Kept[T]] | None:
        """What was delivered after a position; `None` if that is no place in the chain any more.

        Ask only where `position` is known.
        """
        assert self.position is not None
        missed = after(Stretch(self.position, self._ring, self._before), position)
        return None if missed is None or len(missed) > self._size else missed

    def recent(self, limit: int) -> list[Kept[T]]:
        """The last so many that were delivered, oldest first."""
        skipped = max(len(self._ring) - min(limit, self._size), 0)
        return list(islice(self._ring, skipped, None))

    def forget(self) -> None:
        """The carrier keeps these messages no more; the numbering goes on."""
        self._ring.clear()
        self._forgotten = len(self._ahead)
        if self._is_reading:  # what is read may have been forgotten since
            self.refresh()

    # How.

    def _remember(self, messages: Iterable[Kept[T]], before: int | None) -> None:
        """Add messages to the ring; one more than can be missed, to resume from before it."""
        ring = self._ring
        if not ring:
            self._before = before
        for message in messages:
            ring.append(message)
            while ring and (len(ring) > self._size + 1 or ring.bytes > MAX_BYTES):
                self._before = ring.popleft().tag

    def _drop_ahead(self) -> None:
        self._ahead.clear()
        self._forgotten = 0

    def _take_meanwhile(self) -> list[tuple[str, int, Kept[T]]]:
        taken, self._meanwhile, self._meanwhile_bytes = self._meanwhile, [], 0
        return taken

    def _follows(self, epoch: str, previous: int, message: Kept[T]) -> bool:
        own = self.position
        if own is None or epoch != own.epoch:
            return False
        offset, tag = (self._ahead[-1][:2]) if self._ahead else (own.offset, own.tag)
        return message.offset == offset + 1 and previous == tag

    def _is_known(self, epoch: str, message: Kept[T]) -> bool:
        own = self.position
        return (
            own is not None
            and epoch == own.epoch
            and (
                message[:2] == own[1:]
                or any(known[:2] == message[:2] for known in chain(self._ring, self._ahead))
            )
        )


class _Messages(deque[Kept[T]]):
    """Successive messages, and what they cost. Only what is defined here may change them."""

    def __init__(self, cost: Callable[[T], int]) -> None:
        super().__init__()
        self._cost = cost
        self.bytes = 0

    def append(self, message: Kept[T]) -> None:
        self.bytes += self._cost(message.item)
        super().append(message)

    def extend(self, messages: Iterable[Kept[T]]) -> None:
        for message in messages:
            self.append(message)

    def popleft(self) -> Kept[T]:
        message = super().popleft()
        self.bytes -= self._cost(message.item)
        return message

    def clear(self) -> None:
        self.bytes = 0
        super().clear()


def after(kept: Stretch[T], position: Position) -> list[Kept[T]] | None:
    """The messages after a position, or `None` if that is not a place in the chain any more.

    A position is one if it is the top, if its very message is there, or if the first that is there
    is known to follow it.
    """
    top = kept.top
    if position == top:
        return []
    if position.epoch != top.epoch or position.offset >= top.offset or not kept.messages:
        return None
    first = kept.messages[0]
    index = position.offset - first.offset
    if index == -1:
        tag = 0 if first.offset == 1 else kept.before
    else:
        tag = kept.messages[index].tag if 0 <= index < len(kept.messages) else None
    return list(islice(kept.messages, index + 1, None)) if tag == position.tag else None
