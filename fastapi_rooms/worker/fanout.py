"""From a broadcast to the sockets it is for, on this worker.

A few members are written to at once. For more, the broadcast is queued until the turn of the event
loop is over, with the members that its rooms had when it was sent. That buys two things:

* Messages to the same rooms in one turn leave in one write per member. Under load that is worth
  more than anything else: a write costs a system call, a longer write hardly more.
* A fan-out to thousands is written in slices, with the event loop free for others in between.

The queue is first in, first out. While it is not empty, small broadcasts wait in line, too; so
every socket gets messages in the order in which they were sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import islice

from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Batch, Outgoing, Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports.base import Transport
from fastapi_rooms.transports.write_loop import write
from fastapi_rooms.types import Room, Sid

logger = logging.getLogger("fastapi_rooms")

IMMEDIATE_MAX = 16
"""Members that are written to at once: some 50 µs of work."""

SLICE = 1024
"""Members that are written to in one turn of the event loop: some 5 ms of work."""

MAX_BATCH_BYTES = 64 * 1024
"""Messages are not joined past this size; a write of more gains nothing."""


class Delivery:
    """Messages to the same members, and how far they have got."""

    __slots__ = (
        "_done",
        "_sids",
        "_transports",
        "_waiting",
        "begun",
        "excluded",
        "parts",
        "remaining",
        "rooms",
        "size",
        "version",
        "volatile",
    )

    def __init__(
        self,
        rooms: tuple[Room, ...] | None,
        members: Mapping[Sid, Transport],
        version: int,
        volatile: bool,
    ) -> None:
        self.rooms = rooms
        self._transports = iter(list(members.values()))
        self._sids: Iterator[Sid] | None = None  # needed for exclusions only, and dear to touch
        self.version = version
        self.volatile = volatile
        self.parts: list[Payload] = []
        self.excluded: list[frozenset[Sid]] = []
        self.size = 0
        self.remaining = len(members)
        self.begun = False
        self._done = False
        self._waiting: list[asyncio.Future[None]] = []

    def can_append(self, target: Target, payload: Payload, version: int, volatile: bool) -> bool:
        """Whether one more message is for the same members, and fits into the same write."""
        return (
            not self.begun
            and self.rooms == target.rooms
            and self.version == version
            and self.volatile is volatile
            and self.size + len(payload.data) <= MAX_BATCH_BYTES
        )

    def add(
        self, payload: Payload, excluded: frozenset[Sid], members: Membership[Transport]
    ) -> None:
        """Add a message. `members` must be of the version that this delivery was made with."""
        if excluded and self._sids is None:
            self._sids = iter(list(members.select(self.rooms)))
        self.parts.append(payload)
        self.excluded.append(excluded)
        self.size += len(payload.data)

    def write(self, budget: int) -> int:
        """Write to at most `budget` more members; returns to how many."""
        self.begun = True
        count = min(budget, self.remaining)
        self.remaining -= count
        transports = islice(self._transports, count)
        message: Outgoing = self.parts[0] if len(self.parts) == 1 else Batch(self.parts)
        if self._sids is None:
            write(transports, message, volatile=self.volatile)
            return count
        excluded = frozenset[Sid]().union(*self.excluded)
        for sid, transport in zip(islice(self._sids, count), transports, strict=True):
            own = message if sid not in excluded else self._without(sid)
            if own is not None:
                write((transport,), own, volatile=self.volatile)
        return count

    def _without(self, sid: Sid) -> Batch | None:
        """The messages that do not exclude this socket."""
        parts = [p for p, out in zip(self.parts, self.excluded, strict=True) if sid not in out]
        return Batch(parts) if parts else None

    async def written(self) -> None:
        """Return when everyone has been written to."""
        if self._done:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)  # one for each, as cancelling a sender cancels what it awaits
        await waiter

    def finish(self) -> None:
        """It is written, or dropped: wake up those who wait."""
        self._done = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def finished(self) -> bool:
        """Whether everyone has been written to."""
        return self.remaining == 0


class Fanout:
    """Writes broadcasts to the members of one namespace."""

    def __init__(self, members: Membership[Transport]) -> None:
        self._members = members
        self._queue: deque[Delivery] = deque()

    def write(self, target: Target, payload: Payload, *, volatile: bool) -> Delivery | None:
        """Write to the target's members now, or soon: then the delivery says when it is done."""
        queue = self._queue
        if not queue:
            members = self._members.resolve(target)
            if len(members) <= IMMEDIATE_MAX:
                write(members, payload, volatile=volatile)
                return None
            asyncio.get_running_loop().call_soon(self._write_slice)
        version = self._members.version
        if not queue or not queue[-1].can_append(target, payload, version, volatile):
            selected = self._members.select(target.rooms)
            queue.append(Delivery(target.rooms, selected, version, volatile))
        queue[-1].add(payload, self._members.excluded(target), self._members)
        return queue[-1]

    async def written(self) -> None:
        """Return when all that is queued now has been written."""
        if self._queue:
            await self._queue[-1].written()

    def close(self) -> None:
        """Drop what has not been written."""
        for delivery in self._queue:
            delivery.finish()
        self._queue.clear()

    def _write_slice(self) -> None:
        queue = self._queue
        budget = SLICE
        while queue and budget > 0:
            delivery = queue[0]
            budget -= delivery.write(budget)
            if delivery.finished:
                queue.popleft()
                delivery.finish()
        if queue:
            asyncio.get_running_loop().call_soon(self._write_slice)
