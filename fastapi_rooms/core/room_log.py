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
from collections.abc import Sequence
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from fastapi_rooms.core.position import Position

T = TypeVar("T")

MAX_MEANWHILE = 1000
"""Messages that may come while the carrier is being read; after more, it is read once more."""


class Kept(NamedTuple, Generic[T]):
    """A message in its place."""

    offset: int
    tag: int
    item: T


class Stretch(NamedTuple, Generic[T]):
    """The last part of what a carrier has kept of a room."""

    top: Position
    """The end: the last message that was sent."""
    messages: Sequence[Kept[T]]
    """Successive messages, the last of which is at `top`; none if none are kept."""


class RoomLog(Generic[T]):
    """The log of one room on one worker, from its first member to its last.

    What it knows to come next waits in it: `next` gives the first of that, and `advance` says that
    it has been delivered.

    Args:
        size: how many of the last messages the carrier keeps; as many are remembered here.
    """

    def __init__(self, size: int) -> None:
        self.position: Position | None = None
        """Up to which everything has been delivered; `None` before the first read."""
        self.needs_read = True
        """Whether the carrier has to be read, since `position`."""
        self._is_reading = False
        self._reads_all = True
        self._size = size
        self._ring: deque[Kept[T]] = deque(maxlen=size + 1)  # one more, to resume from before it
        self._ahead: deque[Kept[T]] = deque()
        self._meanwhile: list[tuple[str, int, Kept[T]]] = []

    # Delivering.

    def next(self) -> Kept[T] | None:
        """The message to deliver next, if there is one."""
        return self._ahead[0] if self._ahead else None

    def advance(self) -> None:
        """That one has been delivered."""
        assert self.position is not None
        message = self._ahead.popleft()
        self.position = Position(self.position.epoch, message.offset, message.tag)
        self._ring.append(message)

    # What comes.

    def receive(self, epoch: str, previous: int, message: Kept[T]) -> None:
        """A message came; `previous` is the tag of the one before it."""
        if self._is_reading:
            if len(self._meanwhile) < MAX_MEANWHILE:
                self._meanwhile.append((epoch, previous, message))
            else:
                self.needs_read = True  # once more
        elif self.needs_read:
            pass  # the carrier had it before it came, so the read will have it, too
        elif self._follows(epoch, previous, message):
            if len(self._ahead) <= self._size:
                self._ahead.append(message)
            else:  # they can be read again, as long as the carrier keeps them
                self._ahead.clear()
                self.needs_read = True
        elif not self._is_known(epoch, message):
            self.needs_read = True

    # Reading.

    def refresh(self) -> None:
        """All that the carrier keeps has to be read: it may have forgotten what is known here."""
        self.needs_read = self._reads_all = True

    def begin_read(self) -> Position | None:
        """The carrier is about to be read, since this position; `None` is for all that it has."""
        self._is_reading, self.needs_read = True, False
        self._ahead.clear()  # it is in what is read
        return None if self._reads_all else self.position

    def fail_read(self) -> None:
        """The carrier could not be read: it is to be tried again."""
        self._is_reading, self.needs_read = False, True
        self._meanwhile.clear()

    def finish_read(self, read: Stretch[T]) -> bool:
        """The carrier has been read; returns whether nothing is lost.

        If nothing is, what was missed comes next. Else the log goes on at the carrier's end.
        """
        self._is_reading = False
        own = self.position
        missed = after(read, own) if own is not None else None
        was_all, self._reads_all = self._reads_all, False
        if missed is None:
            self.position = read.top
            self._ring.clear()
            if was_all:
                self._ring.extend(read.messages)
            else:  # what was read since a position that is gone may be any part of what is kept
                self.refresh()
        else:
            if was_all:
                kept = list(read.messages)
                self._ring.clear()
                self._ring.extend(kept[: len(kept) - len(missed)])
            self._ahead.extend(missed)
        meanwhile, self._meanwhile = self._meanwhile, []
        for epoch, previous, message in meanwhile:
            if epoch != read.top.epoch or message.offset > read.top.offset:
                self.receive(epoch, previous, message)
        return own is None or missed is not None

    # For those who join.

    def since(self, position: Position) -> list[Kept[T]] | None:
        """What was delivered after a position; `None` if that is no place in the chain any more.

        Ask only where `position` is known.
        """
        assert self.position is not None
        missed = after(Stretch(self.position, self._ring), position)
        return None if missed is None or len(missed) > self._size else missed

    def recent(self, limit: int) -> list[Kept[T]]:
        """The last so many that were delivered, oldest first."""
        skipped = max(len(self._ring) - min(limit, self._size), 0)
        return list(islice(self._ring, skipped, None))

    def forget(self) -> None:
        """The carrier keeps these messages no more; the numbering goes on."""
        self._ring.clear()

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
            and any(
                m.offset == message.offset and m.tag == message.tag
                for m in (*self._ring, *self._ahead)
            )
        )


def after(kept: Stretch[T], position: Position) -> list[Kept[T]] | None:
    """The messages after a position, or `None` if that is not a place in the chain any more.

    A position is one if it is the top, or if its very message is there.
    """
    top = kept.top
    if position == top:
        return []
    if position.epoch != top.epoch or position.offset >= top.offset or not kept.messages:
        return None
    first = kept.messages[0]
    if position.offset == 0:
        return list(kept.messages) if first.offset == 1 else None
    index = position.offset - first.offset
    if index < 0 or kept.messages[index].tag != position.tag:
        return None
    return list(islice(kept.messages, index + 1, None))
