"""Who is present, by the masters of a cluster: every key at its slot's."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Any

from fastapi_rooms.adapters.presence import Beat, Changed, Entry, Lease, RoomKey, Sums, Terms
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence.indexes import Lead, added
from fastapi_rooms.adapters.redis.presence.keys import worker_key
from fastapi_rooms.adapters.redis.presence.presence import Made, RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Answered, Part, failure_in
from fastapi_rooms.adapters.redis.presence.rights import PRESENCE
from fastapi_rooms.adapters.redis.presence.room_script import SHARDED, Step
from fastapi_rooms.adapters.redis.sharded.slot_lanes import NodeLane, SlotLanes
from fastapi_rooms.adapters.redis.sharded.slot_questions import SlotQuestions, is_elsewhere
from fastapi_rooms.adapters.redis.sharded.slot_tags import slot_tags
from fastapi_rooms.adapters.redis.sharded.slots import SLOTS, slot_of
from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.errors import AdapterUnavailable

SLOTS_AT_ONCE = 500
"""Slots that are looked into together: some 4 ms of work."""


class ClusterPresence(RoomsPresence):
    """The rooms of a cluster.

    In each slot where a worker has rooms, it has a set of them. Which slots these are, it knows
    itself; whoever reaps it looks into all.

    Args:
        lanes: the connections to its masters.
        prefix: the first part of every key.
    """

    def __init__(self, lanes: SlotLanes, prefix: str) -> None:
        super().__init__(prefix, SHARDED)
        self._lanes = lanes
        self._questions = SlotQuestions(lanes)
        self._lease = Lease("", 0)
        self._slots: set[int] = set()  # where there may be rooms of it
        self._half_seen: set[Lease] = set()  # of which some slots could not be looked into
        self._adding: dict[bytes, set[asyncio.Future[None]]] = {}  # what leads to a room
        self._unkept: set[bytes] = set()  # rooms of which some of that could not be written

    def relinks(self) -> int:
        """How often any of its lanes was, or a master has gone."""
        return self._lanes.relinks

    # What leads from workers.

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        """Renew a lease, and know it for one's own."""
        if not lease.number:
            await asyncio.to_thread(slot_tags)  # which are made once
        beat = await super().beat(lease, ttl, reaps=reaps)
        if beat.lease != self._lease:
            self._lease, self._slots = beat.lease, set()
        return beat

    def _keys(self, step: Step) -> list[bytes]:
        if step.lease == self._lease:
            self._slots.add(_slot_of(step.room.name))
        return super()._keys(step)

    def _index(self, lease: Lease, room: bytes) -> bytes:
        return worker_key(self._prefix, lease, slot_tags()[_slot_of(room)])

    async def _indexes(self, lease: Lease) -> Sequence[bytes]:
        slots = sorted(self._slots) if lease == self._lease else range(SLOTS)
        looks: list[asyncio.Task[None]] = []
        tags, found, failures = slot_tags(), list[bytes](), list[AdapterUnavailable]()
        async for some in in_slices(slots, SLOTS_AT_ONCE):
            keys = [worker_key(self._prefix, lease, tags[slot]) for slot in some]
            looks.append(asyncio.create_task(self._look_into(keys, found, failures)))
            if not failures:  # else a node does not answer, and is waited for once
                await looks[-1]
        await asyncio.gather(*looks)
        self._half_seen.discard(lease)
        if failures:
            if lease == self._lease or not found:
                raise failures[0]
            self._half_seen.add(lease)
        return found

    async def _look_into(
        self, keys: Sequence[bytes], found: list[bytes], failures: list[AdapterUnavailable]
    ) -> None:
        """Find those keys that there are, and why it is not known of some."""
        outcomes = await self._each([Part(key, pack(b"EXISTS", key), 1) for key in keys])
        found += [key for key, outcome in zip(keys, outcomes, strict=True) if outcome == [1]]
        if failure := failure_in(outcomes):
            failures.append(failure)

    async def bury(self, lease: Lease) -> None:
        """Forget a worker, unless some of its rooms may be where could not be looked for them."""
        indexes = await self._indexes(lease)
        if lease in self._half_seen:
            raise AdapterUnavailable("Not every slot could be looked into for a worker's rooms")
        await self._forget(lease, indexes)

    # Rooms.

    def _together(self, steps: Sequence[tuple[int, Step]]) -> Iterable[Sequence[tuple[int, Step]]]:
        groups: dict[NodeLane | None, list[tuple[int, Step]]] = {}
        for each in steps:
            lane = self._lanes.lane_of(_slot_of(each[1].room.name))
            groups.setdefault(lane, []).append(each)
        return groups.values()

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        """Have everything that leads to the room written, too."""
        self._unkept.discard(room.name)
        return await super().sync(room, lease, terms, entries, quiet=quiet)

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """A room is not whole to which something does not lead."""
        found = await super().sums(lease, rooms)
        for at, room in enumerate(rooms):
            if room.name in self._unkept:
                found[at] = found[at]._replace(is_whole=False)
        return found

    # What leads from users and sockets.

    def _is_made(self, made: Made, added: asyncio.Future[None]) -> None:
        room = made.step.room.name
        if made.step.enter and not made.changed.fenced:
            self._adding.setdefault(room, set()).add(added)
            added.add_done_callback(partial(self._is_added, room))
        if not made.sockets:
            self._unkept.discard(room)

    def _is_added(self, room: bytes, added: asyncio.Future[None]) -> None:
        self._adding[room].discard(added)
        if not self._adding[room]:
            del self._adding[room]

    async def _follow(
        self, made: Sequence[Made], added: asyncio.Future[None]
    ) -> AdapterUnavailable | None:
        """Add what leads to rooms that were entered, and remove what leads to those that were left.

        What is removed waits for what else is being added.
        """
        adding, leads, others = list[Lead](), list[Lead](), set[asyncio.Future[None]]()
        for step, changed, _ in made:
            room = step.room.name
            left = self._users(room, changed.left) + self._sockets(room, step.lease, step.leave)
            if left:
                leads += left
                others |= self._adding.get(room, set()) - {added}
            if step.enter and not changed.fenced:
                adding += self._sockets(room, step.lease, [sid for sid, _ in step.enter])
                adding += self._users(room, dict.fromkeys([user for _, user in step.enter]))
        failure = await self._add(adding)
        added.set_result(None)
        if others:
            await asyncio.wait(others)
        await self._unindex(leads)
        return failure

    async def _add(self, leads: Sequence[Lead]) -> AdapterUnavailable | None:
        outcomes = await self._each([added(lead.key, lead.room) for lead in leads])
        failure = failure_in(outcomes)
        if failure is not None:
            for lead, outcome in zip(leads, outcomes, strict=True):
                if failure_in([outcome]):
                    self._unkept.add(lead.room)
        return failure

    async def _found(
        self, leads: Collection[Lead], first: Sequence[Part], *, is_there: bool
    ) -> list[Lead]:
        """One node that does not answer keeps nothing from being done at the others."""
        outcomes = await self._each(first)
        written = [
            lead
            for lead, outcome in zip(leads, outcomes, strict=True)
            if not isinstance(outcome, AdapterUnavailable)
        ]
        found = await self._each([self._look_for(lead.room, lead.field) for lead in written])
        return [lead for lead, it in zip(written, found, strict=True) if it == [int(is_there)]]

    # Whom to ask.

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        answers: list[list[Any]] = []
        for stage in stages:
            for outcome in await self._each(stage):
                if isinstance(outcome, AdapterUnavailable):
                    raise outcome
                answers.append(outcome)
        return answers

    async def _each(self, parts: Sequence[Part]) -> list[list[Any] | AdapterUnavailable]:
        """The replies to each part, or why there are none."""
        outcomes: list[list[Any] | AdapterUnavailable] = [[] for _ in parts]
        await self._ask_each(parts, outcomes.__setitem__)
        return outcomes

    async def _ask_each(self, parts: Sequence[Part], answered: Answered) -> None:
        lanes: dict[NodeLane | None, list[int]] = {}
        for at, part in enumerate(parts):
            lanes.setdefault(self._lanes.lane_of(slot_of(part.key)), []).append(at)
        work = [self._ask_lane(lane, parts, which, answered) for lane, which in lanes.items()]
        if len(work) == 1:
            await work[0]
        elif work:
            await asyncio.gather(*work)

    async def _ask_lane(
        self, lane: NodeLane | None, parts: Sequence[Part], which: Sequence[int], answered: Answered
    ) -> None:
        elsewhere: list[int] = []

        def came(at: int, outcome: list[Any] | AdapterUnavailable) -> None:
            if isinstance(outcome, AdapterUnavailable):
                is_here = lane is not None and self._lanes.is_serving(lane)
            else:
                is_here = not is_elsewhere(outcome)
            if is_here:
                answered(which[at], outcome)
            else:
                elsewhere.append(which[at])

        if lane is None:
            elsewhere += which
        else:
            questions = [(parts[at].data, parts[at].commands) for at in which]
            try:
                await lane.ask_each(questions, PRESENCE, came)
            except AdapterUnavailable as error:  # it was not asked at all
                for at in range(len(which)):
                    came(at, error)
        if elsewhere:
            await asyncio.gather(*(self._ask_on(parts[at], at, answered) for at in elsewhere))

    async def _ask_on(self, part: Part, at: int, answered: Answered) -> None:
        """Ask whichever node has a slot meanwhile."""
        outcome: list[Any] | AdapterUnavailable
        try:
            outcome = await self._questions.ask(
                slot_of(part.key), lambda: part.data, part.commands, PRESENCE
            )
        except AdapterUnavailable as error:
            outcome = error
        answered(at, outcome)


def _slot_of(room: bytes) -> int:
    """The slot of a room, by its name."""
    return slot_of(b"{%b}" % room)
