"""Messages that are written together: every member gets all of theirs in as few writes as possible.

Messages to the same members, at the same moment of their rooms' history, are a group. A socket that
is in the rooms of several groups gets the messages of all of them, in the order in which they came.
So sockets are sorted by which groups they are in, and those of one kind share one frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from fastapi_rooms.core.payload import Batch, Outgoing, Payload
from fastapi_rooms.transports.base import Transport

MAX_BATCH_BYTES = 64 * 1024
"""Messages are not joined past this size; a write of more gains nothing."""

NOBODY: frozenset[Transport] = frozenset()


class Delivery:
    """One message on its way to the members that its rooms had when it was sent."""

    __slots__ = ("_burst", "excluded", "has_begun", "is_cancelled", "number", "payload", "volatile")

    def __init__(
        self,
        burst: Burst,
        number: int,
        payload: Payload,
        excluded: frozenset[Transport],
        volatile: bool,
    ) -> None:
        self._burst = burst
        self.number = number
        """Its place among the messages of the burst."""
        self.payload = payload
        self.excluded = excluded
        """The members that do not get it."""
        self.volatile = volatile
        self.has_begun = False
        """Whether its writing has begun: then all of its members get it, of whatever kind."""
        self.is_cancelled = False
        """Whether its sender was cancelled before its writing began."""

    async def written(self) -> None:
        """Return when everyone has been written to, or never will be.

        A message whose sender is cancelled is not written, unless that has begun.
        """
        try:
            await self._burst.written()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Write it to nobody, unless that has begun."""
        self.is_cancelled = not self.has_begun


class Group:
    """Messages to the same members."""

    __slots__ = ("deliveries", "flow", "members")

    def __init__(self, flow: Hashable, members: list[Transport]) -> None:
        self.flow = flow
        """What the backlog counts it as."""
        self.members = members
        self.deliveries: list[Delivery] = []


class WriteJob(NamedTuple):
    """One write to each of some members."""

    transports: list[Transport]
    message: Outgoing
    volatile: bool


class Burst:
    """What came in until its writing began."""

    def __init__(self, since: float) -> None:
        self.since = since
        """When it began, by the event loop's clock."""
        self._groups: dict[Hashable, Group] = {}
        self._costs: dict[Hashable, float] = {}
        self._count = 0
        self._volatile = False
        self._segment = 0
        self._finished = False
        self._waiting: list[asyncio.Future[None]] = []
        self.marks: dict[Hashable, Any] = {}
        """What has been noted of it, by whoever sent the messages."""

    def key(self, flow: Hashable, version: int, *, volatile: bool) -> Hashable:
        """What a group is found by.

        A volatile message is in another group than its neighbours that are not, as it takes a
        write of its own.
        """
        if volatile is not self._volatile:
            self._volatile = volatile
            self._segment += 1
        return (flow, version, self._segment)

    def group(self, key: Hashable) -> Group | None:
        """The group of messages to the same members, if there is one."""
        return self._groups.get(key)

    def open_group(self, key: Hashable, flow: Hashable, members: list[Transport]) -> Group:
        """Begin a group."""
        group = self._groups[key] = Group(flow, members)
        return group

    def add(
        self, group: Group, payload: Payload, excluded: frozenset[Transport], cost: float
    ) -> Delivery:
        """Add a message to a group; `cost` is what the backlog counts for it."""
        delivery = Delivery(self, self._count, payload, excluded, self._volatile)
        self._count += 1
        group.deliveries.append(delivery)
        self._costs[group.flow] = self._costs.get(group.flow, 0.0) + cost
        return delivery

    def costs(self) -> Iterable[tuple[Hashable, float]]:
        """What the backlog has counted for it, by flow."""
        return self._costs.items()

    def jobs(self) -> Iterator[WriteJob]:
        """The writes to make, each member's in order. They are built as they are asked for."""
        groups = list(self._groups.values())
        self._groups.clear()
        if len(groups) == 1:
            yield from _jobs_for(groups[0].members, groups[0].deliveries)
            return
        for members, their_groups in _by_kind(groups):
            deliveries = list(chain.from_iterable(group.deliveries for group in their_groups))
            if len(their_groups) > 1:
                deliveries.sort(key=_number)
            yield from _jobs_for(members, deliveries)

    async def written(self) -> None:
        """Return when everyone has been written to."""
        if self._finished:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)  # one for each, as cancelling a sender cancels what it awaits
        await waiter

    def finish(self) -> None:
        """It is written, or dropped: wake up those who wait."""
        self._finished = True
        self._groups.clear()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


_number = attrgetter("number")


def _by_kind(groups: list[Group]) -> Iterator[tuple[list[Transport], list[Group]]]:
    """Every member of some groups, together with all that are in the same of them.

    A kind is a group, and the kind of those who were in the same groups before it: so each member
    of each group is looked at once.
    """
    kinds: list[tuple[int, Group]] = []
    kind_of: dict[Transport, int] = {}
    for group in groups:
        kind_after: dict[int, int] = {}
        for transport in group.members:
            before = kind_of.get(transport, -1)
            kind = kind_after.get(before)
            if kind is None:
                kind = kind_after[before] = len(kinds)
                kinds.append((before, group))
            kind_of[transport] = kind
    members: dict[int, list[Transport]] = {}
    for transport, kind in kind_of.items():
        members.setdefault(kind, []).append(transport)
    for kind, transports in members.items():
        theirs = []
        while kind >= 0:
            kind, group = kinds[kind]
            theirs.append(group)
        yield transports, theirs


def _jobs_for(transports: list[Transport], deliveries: list[Delivery]) -> Iterator[WriteJob]:
    """The writes of some messages, which are in order, to the same members."""
    for some in _joined(deliveries):
        volatile = some[0].volatile
        excluded = NOBODY.union(*[delivery.excluded for delivery in some])
        if not excluded:
            yield WriteJob(transports, _message([delivery.payload for delivery in some]), volatile)
            continue
        all_of_it = [t for t in transports if t not in excluded]
        if all_of_it:
            yield WriteJob(all_of_it, _message([delivery.payload for delivery in some]), volatile)
        for transport in transports:
            if transport in excluded:
                parts = [d.payload for d in some if transport not in d.excluded]
                if parts:
                    yield WriteJob([transport], _message(parts), volatile)


def _joined(deliveries: list[Delivery]) -> Iterator[list[Delivery]]:
    """Those that go into one write."""
    some: list[Delivery] = []
    size = 0
    for delivery in deliveries:
        if delivery.is_cancelled:
            continue
        delivery.has_begun = True
        length = len(delivery.payload.data)
        if some and (size + length > MAX_BATCH_BYTES or delivery.volatile != some[0].volatile):
            yield some
            some, size = [], 0
        some.append(delivery)
        size += length
    if some:
        yield some


def _message(parts: list[Payload]) -> Outgoing:
    return parts[0] if len(parts) == 1 else Batch(parts)
