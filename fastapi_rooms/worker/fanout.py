"""From a broadcast to the sockets it is for, on this worker.

A few members are written to at once. For more, the broadcast waits until the turn of the event loop
is over, with the members that its rooms had when it was sent. That buys two things:

* What a socket is sent in one turn leaves in one write. Under load that is worth more than anything
  else: a write costs a system call, a longer write hardly more.
* A fan-out to thousands is written in slices, with the event loop free for others in between.

While one burst of messages is being written the next one collects, so the later it gets, the more
leaves in one write. While anything waits, small broadcasts wait in line, too; so every socket gets
messages in the order in which they were sent.

What waits is bounded, for the whole worker: see [fastapi_rooms.core.backlog][]. Who sends here
waits for room. What other workers send is dropped when there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from fastapi_rooms.core.backlog import MEMBER_BYTES, Backlog
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.membership import Membership
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.transports.base import Transport
from fastapi_rooms.transports.write_loop import write
from fastapi_rooms.types import Sid
from fastapi_rooms.worker.burst import NOBODY, Burst, Delivery, WriteJob
from fastapi_rooms.worker.compressing import (
    compressing,
    cost_of_compressing,
    is_to_be_compressed_in_steps,
)

IMMEDIATE_MAX = 16
"""Members that are written to at once: some 50 µs of work."""

IMMEDIATE_IN_A_ROW = 1024
"""Members that are written to at once before a message waits, as they may all be in one turn."""

SLICE = 1024
"""Writes in one turn of the event loop: some 5 ms of work on a machine that has time."""

SLICE_SECONDS = 0.005
"""Where it has not, the turn ends after so long. So reading, and what is merged or dropped by it,
comes before writing: what waits in the carrier can be neither."""

_WRITES_PER_LOOK = 128
"""Writes after which to look at the clock."""

WRITE_BYTES = 16 * 1024
"""What can be written in the time that a write takes anyway."""

_MIN_MEASURED = 64
"""Writes that it takes to measure how long one takes."""


class Fanout:
    """Writes broadcasts to the members of all namespaces of one worker.

    Args:
        max_lag: the seconds that writing what waits may take.
    """

    def __init__(self, max_lag: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog(max_lag)
        self._collecting: Burst | None = None
        self._writing: Burst | None = None
        self._jobs: Iterator[WriteJob] = iter(())
        self._job: WriteJob | None = None
        self._next_member = 0
        self._compressing: Iterator[None] = iter(())
        self._is_scheduled = False
        self._slice_from = 0.0
        self._in_a_row = 0
        self._room_for_one = asyncio.Lock()
        self._waiting = 0

    @property
    def lag(self) -> float:
        """Seconds since the oldest message came that has not been written to everyone."""
        oldest = self._writing or self._collecting
        return 0.0 if oldest is None else max(self._loop.time() - oldest.since, 0.0)

    @property
    def is_full(self) -> bool:
        """Whether whoever sends here is to wait for `room`, maybe only behind others who wait."""
        return self._waiting > 0 or self._backlog.is_full

    async def room(self) -> None:
        """Return when there is room for one more message, in the order of the calls."""
        self._waiting += 1
        try:
            async with self._room_for_one:
                while self._backlog.is_full and (burst := self._writing or self._collecting):
                    await burst.written()
        finally:
            self._waiting -= 1

    def send(
        self, members: Membership[Transport], target: Target, payload: Payload, *, volatile: bool
    ) -> Delivery | None:
        """Write a message that is sent here now, or soon: then the delivery says when it is done.

        It is taken whether or not there is room, but a volatile one is skipped if there is little.
        """
        if self._write_at_once(members, target, payload, volatile=volatile):
            return None
        _, delivery = self._queue(members, target, payload, volatile=volatile, refuse=volatile)
        return delivery

    def receive(
        self, members: Membership[Transport], target: Target, payload: Payload, *, volatile: bool
    ) -> bool:
        """Write a message of another worker now, or soon; false if there is no room for it."""
        if self._write_at_once(members, target, payload, volatile=volatile):
            return True
        taken, _ = self._queue(members, target, payload, volatile=volatile, refuse=True)
        return taken

    def mark(self, key: Hashable, value: Any) -> None:
        """Note something of the message that was taken last, if it waits to be written.

        Of those that are written together the first counts.
        """
        if self._collecting is not None:
            self._collecting.marks.setdefault(key, value)

    def marked(self, key: Hashable) -> Any:
        """What was noted of the first message that is not written yet; `None` if there is none."""
        for burst in (self._writing, self._collecting):
            if burst is not None and key in burst.marks:
                return burst.marks[key]
        return None

    async def written(self) -> None:
        """Return when all that waits now has been written."""
        last = self._collecting or self._writing
        if last is not None:
            await last.written()

    def close(self) -> None:
        """Drop what has not been written."""
        for burst in (self._writing, self._collecting):
            if burst is not None:
                self._finish(burst)
        self._writing = self._collecting = self._job = None
        self._jobs, self._compressing = iter(()), iter(())

    def _write_at_once(
        self, members: Membership[Transport], target: Target, payload: Payload, *, volatile: bool
    ) -> bool:
        if self._is_scheduled:
            return False
        found = members.few(target, IMMEDIATE_MAX)
        if found is None or is_to_be_compressed_in_steps(found, payload):
            return False
        self._in_a_row += len(found) + cost_of_compressing(found, payload)
        if self._in_a_row > IMMEDIATE_IN_A_ROW:
            self._in_a_row = 0
            return False
        write(found, payload, volatile=volatile)
        return True

    def _queue(
        self,
        members: Membership[Transport],
        target: Target,
        payload: Payload,
        *,
        volatile: bool,
        refuse: bool,
    ) -> tuple[bool, Delivery | None]:
        """Whether the message was taken, and what became of it if it is for anyone here."""
        burst = self._collecting or Burst(self._loop.time())
        flow = (members, target.rooms)
        key = burst.key(flow, members.version, volatile=volatile)
        group = burst.group(key)
        length = len(payload.data)
        memory, writes = ENTRY_BYTES + length, length / WRITE_BYTES
        selected: Mapping[Sid, Transport] = {}
        if group is None:
            selected = members.select(target.rooms)
            if not selected:
                return True, None
            writes = len(selected) * (1 + writes)
            memory += len(selected) * MEMBER_BYTES
        else:
            writes *= len(group.members)
        cost = self._backlog.cost(memory, writes)
        if refuse and not self._backlog.admits(flow, cost, volatile=volatile):
            return volatile, None
        if group is None:
            group = burst.open_group(key, flow, list(selected.values()))
        self._backlog.add(flow, cost)
        self._collecting = burst
        self._schedule()
        return True, burst.add(group, payload, _excluded(members, target), cost)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._write_slice)
            self._slice_from = self._loop.time()

    def _write_slice(self) -> None:
        self._is_scheduled = False
        self._in_a_row = 0
        budget, now = SLICE, self._loop.time
        deadline = now() + SLICE_SECONDS
        while budget > 0 and (job := self._job or self._next_job()) is not None:
            if not self._compress(deadline):
                break
            start = self._next_member
            weight = 1 + job.message.size // WRITE_BYTES
            affordable = min(budget, _WRITES_PER_LOOK) // weight
            count = min(max(affordable, 1), len(job.transports) - start)
            write(job.transports[start : start + count], job.message, volatile=job.volatile)
            budget -= count * weight
            self._next_member = start + count
            if self._next_member == len(job.transports):
                self._job, self._next_member = None, 0
            if now() >= deadline:
                break
        written = SLICE - budget
        if written >= _MIN_MEASURED:
            # From the last slice on: what others have done meanwhile is part of how long it takes.
            self._backlog.measured(written, now() - self._slice_from)
        if self._job is not None or self._writing is not None or self._collecting is not None:
            self._schedule()

    def _next_job(self) -> WriteJob | None:
        """The next write to make, if there is one; ends the burst before it."""
        while (job := next(self._jobs, None)) is None:
            if self._writing is not None:
                self._finish(self._writing)
            self._writing, self._collecting = self._collecting, None
            if self._writing is None:
                return None
            self._jobs = self._writing.jobs()
        self._job = job
        self._compressing = compressing(job.transports, job.message)
        return job

    def _compress(self, deadline: float) -> bool:
        """Whether the message that is written next is compressed; if not, the turn is over."""
        return all(self._loop.time() < deadline for _ in self._compressing)

    def _finish(self, burst: Burst) -> None:
        for flow, cost in burst.costs():
            self._backlog.remove(flow, cost)
        burst.finish()


def _excluded(members: Membership[Transport], target: Target) -> frozenset[Transport]:
    """The members that a message is not for."""
    if not target.except_:
        return NOBODY
    found = frozenset(map(members.get, members.excluded(target)))
    return frozenset(filter(None, found)) if None in found else found  # type: ignore[return-value]  # has none
