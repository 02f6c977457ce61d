"""What `SupportsPresence` asks for, whoever is asked: one Redis, or the nodes of a cluster.

A room is changed in one step, by a script. The sets that lead to it are other keys, in a cluster
at other nodes, so their order matters:

* Which rooms a worker has sockets in is written before the room, and removed after it: a room that
  has to be reaped is always found.
* Which rooms a user is in is written after the room, and so it is checked when it is removed: who
  removes it looks at the room once more, and puts it back if the user has come meanwhile. The same
  holds for the rooms of sids that two workers can hold.

So a join is three stages, and in a cluster three round trips. They cannot simply go side by side. A
worker that dies when its room is written, and the index of its rooms is not, would stay in the room
for as long as others keep that alive. And a user's index written before the room can be removed by
whoever has just seen the user leave, and finds no reason to put it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import (
    Beat,
    Changed,
    Entry,
    Lease,
    Sums,
    Terms,
    UserEvent,
)
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence import lease_script, mend_script, replies, room_script
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.indexes import KEPT, RoomIndexes, added, removed
from fastapi_rooms.adapters.redis.presence.keys import (
    keys_of,
    namespace_of,
    socket_key,
    user_key,
    worker_key,
    workers_key,
)
from fastapi_rooms.adapters.redis.presence.reader import Part
from fastapi_rooms.adapters.redis.presence.room_script import MAX_AT_ONCE, NOBODY, Step
from fastapi_rooms.core.presence import is_chosen
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid

T = TypeVar("T")

ROOMS_AT_ONCE = 256
"""Rooms that are asked about together, so that nothing waits for long behind them."""

LOOKED_AT_AT_ONCE = 10_000
"""Sockets that are looked at in one turn of the event loop: some milliseconds."""


class RoomsPresence(RoomIndexes):
    """Who is present. Subclasses say whom to ask, by `_ask`.

    Args:
        prefix: the first part of every key.
        script: changes a room.
    """

    def __init__(self, prefix: str, script: Script) -> None:
        super().__init__(prefix)
        self._script = script

    # Leases.

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        """Renew a lease, and declare others dead."""
        limit = lease_script.MAX_OVERDUE if reaps else 0
        encode = partial(lease_script.encode, self._prefix, lease, ttl, limit)
        reply, _, _ = await self._call(workers_key(self._prefix), encode)
        return lease_script.decode(reply, lease)

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        """The rooms to be reaped."""
        return [*dict.fromkeys([n async for n in self._names(worker_key(self._prefix, lease))])]

    async def bury(self, lease: Lease) -> None:
        """Forget the rooms of a worker, and then the worker."""
        rooms, leases = worker_key(self._prefix, lease), workers_key(self._prefix)
        await self._read(
            [Part(rooms, pack(b"DEL", rooms), 1)],
            [Part(leases, pack(b"ZREM", leases, *lease_script.members_of(lease)), 1)],
        )

    async def reap(self, room: RoomKey, lease: Lease, terms: Terms) -> Changed:
        """Fence a worker off first; then nobody of it enters while its sockets are taken out."""
        return await _all_of(self._reap(room, lease, terms))

    async def _reap(
        self, room: RoomKey, lease: Lease, terms: Terms
    ) -> AsyncGenerator[Changed, None]:
        changed = await self._step(Step("reap", room, lease, terms))
        yield changed
        async for some in self._own(room, lease):
            if changed.fenced:
                break
            for sids in _chunks([entry.sid for entry in some]):
                changed = await self._step(Step("reap", room, lease, terms, leave=sids))
                yield changed
        if changed.fenced or changed.next_leave is None:
            rooms = worker_key(self._prefix, lease)
            await self._read([removed(rooms, room.name)])

    # Rooms.

    async def change(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        *,
        enter: Sequence[Entry] = (),
        leave: Sequence[Sid] = (),
        quiet: bool = False,
    ) -> Changed:
        """Have sockets leave, and others enter, some hundred in a step."""
        return await _all_of(self._changes(room, lease, terms, enter, leave, quiet=quiet))

    async def _changes(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        enter: Sequence[Entry],
        leave: Sequence[Sid],
        *,
        quiet: bool,
    ) -> AsyncGenerator[Changed, None]:
        step = Step("change", room, lease, terms, quiet=quiet)
        steps = [step._replace(leave=some) for some in _chunks(leave)]
        if steps and len(steps[-1].leave) + len(enter) <= MAX_AT_ONCE:
            steps[-1] = steps[-1]._replace(enter=enter)
        else:
            steps += [step._replace(enter=some) for some in _chunks(enter)]
        for each in steps or [step]:
            changed = await self._change(each)
            yield changed
            if changed.fenced:
                break

    async def _change(self, step: Step) -> Changed:
        """A step, with what leads to the room."""
        prefix, (room, lease) = self._prefix, step[1:3]
        namespace, rooms = namespace_of(room.name), worker_key(prefix, lease)
        before = [added(rooms, room.name)] if step.enter or not step.leave else []
        keys = [socket_key(prefix, namespace, entry.sid.encode()) for entry in step.enter]
        users = {entry.user: None for entry in step.enter}
        keys += [user_key(prefix, namespace, user.encode()) for user in users]
        after = [*self._left(room, lease, step.leave), *self._added(keys, room.name)]
        (changed, sockets), answers = await self._do(step, before, after)
        checked, over = self._checked(step, changed), []
        if changed.fenced:
            checked.update(self._users(room, users))
            checked.update(self._sockets(room, lease, [entry.sid for entry in step.enter]))
            if before and answers[0][0] == 1:  # else a reaper has to find it there
                over.append(removed(rooms, room.name))
        elif not sockets and changed.next_leave is None:
            over.append(removed(rooms, room.name))
        await self._unindex(room, checked, over)
        return changed

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        """Put in what is missing, take out what is too much, and repair the rest."""
        return await _all_of(self._sync(room, lease, terms, entries, quiet=quiet))

    async def _sync(
        self, room: RoomKey, lease: Lease, terms: Terms, entries: Sequence[Entry], *, quiet: bool
    ) -> AsyncGenerator[Changed, None]:
        wanted: set[Sid] = set()
        for part in _chunks(entries, LOOKED_AT_AT_ONCE):
            wanted.update([entry.sid for entry in part])
            await asyncio.sleep(0)
        surplus: dict[Sid, None] = {}
        async for some in self._own(room, lease):
            surplus.update((entry.sid, None) for entry in some if entry.sid not in wanted)
        async for changed in self._changes(room, lease, terms, entries, [*surplus], quiet=quiet):
            yield changed
        (sums,) = await self.sums(lease, [room])
        if not sums.is_whole:
            await self._mend(room, terms)

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """Ask for the sums, and have the rooms kept for longer."""
        own = worker_key(self._prefix, lease)
        await self._read([Part(own, pack(b"PEXPIRE", own, KEPT), 1)])
        found: list[Sums] = []
        for some in _chunks(rooms, ROOMS_AT_ONCE):
            answers = await self._read([self._sums_of(lease, room) for room in some])
            found += [replies.sums_in(*answer[:3]) for answer in answers]
        return found

    def _sums_of(self, lease: Lease, room: RoomKey) -> Part:
        truth, sids, gone = keys = keys_of(self._prefix, room.name)
        commands = [
            pack(b"HMGET", truth, *replies.SUMS_FIELDS, b"w%b" % lease.node.encode()),
            pack(b"SCARD", sids),
            pack(b"ZCARD", gone),
            *(pack(b"PEXPIRE", key, KEPT) for key in keys),
        ]
        return Part(truth, b"".join(commands), len(commands))

    async def sweep(self, room: RoomKey, terms: Terms) -> Changed:
        """Have those leave whose grace is over."""
        return _known(await self._step(Step("sweep", room, NOBODY, terms)))

    async def _step(self, step: Step) -> Changed:
        """A step for which nothing has to lead to the room."""
        after = self._left(step.room, step.lease, step.leave)
        done, _ = await self._do(step, after=after)
        await self._unindex(step.room, self._checked(step, done.changed))
        return done.changed

    async def _do(
        self, step: Step, before: Sequence[Part] = (), after: Sequence[Part] = ()
    ) -> tuple[room_script.Done, list[list[Any]]]:
        encode = partial(room_script.encode, self._script, self._prefix, step)
        truth = keys_of(self._prefix, step.room.name).truth
        reply, answers, failure = await self._call(truth, encode, before, after)
        changed, sockets = room_script.decode(reply)
        changed = changed._replace(failure=changed.failure or failure)
        return room_script.Done(changed, sockets), answers

    def _checked(self, step: Step, changed: Changed) -> dict[bytes, bytes]:
        """What a step may have left: keys, and which fields the room has if it has not."""
        chosen = (sid for sid in step.leave if is_chosen(sid, step.lease.node))
        gone = (event.user for event in changed.events if event.kind == "leave")
        checked = self._users(step.room, gone)
        checked.update(self._sockets(step.room, step.lease, chosen))
        return checked

    # Questions.

    async def rooms_of_user(self, namespace: str, user: str) -> list[str]:
        """The rooms that lead to the user as well; the others are forgotten."""
        key = user_key(self._prefix, namespace.encode(), user.encode())
        named: dict[bytes, str] = {}
        async for name in self._names(key):
            if room := replies.room_in(name, namespace):
                named[name] = room
            else:
                self.malformed += 1
        rooms: list[str] = []
        for some in _chunks([*named], ROOMS_AT_ONCE):
            answers = await self._read([self._look_for(name, user) for name in some])
            for name, (found,) in zip(some, answers, strict=True):
                if found == 1:
                    rooms.append(named[name])
                else:
                    gone = RoomKey(name, b"")
                    await self._unindex(gone, self._users(gone, [user]))
        return rooms

    # Repairs.

    async def _mend(self, room: RoomKey, terms: Terms) -> None:
        """Compare the sids, and who is in their grace, with the truth."""
        keys = keys_of(self._prefix, room.name)
        async for items in self._members(keys.sids):
            await self._mend_some(room, terms, items, [])
        async for page in self._pages(room):
            sids = [entry.sid.encode() for _, entry in page.sockets]
            users = [user.encode() for user, tabs in page.users.items() if tabs == 0]
            await self._mend_some(room, terms, sids, users)

    async def _mend_some(
        self, room: RoomKey, terms: Terms, sids: Sequence[bytes], users: Sequence[bytes]
    ) -> None:
        for some, others in [
            *((some, ()) for some in _chunks(sids)),
            *(((), others) for others in _chunks(users)),
        ]:
            encode = partial(mend_script.encode, self._prefix, room, terms, some, others)
            reply, _, _ = await self._call(keys_of(self._prefix, room.name).truth, encode)
            if refusal := replies.refusal_in([reply]):
                raise AdapterUnavailable(f"Redis refused to repair a room: {explain(refusal)}")


async def _all_of(steps: AsyncGenerator[Changed, None]) -> Changed:
    """What has become of a room by several steps, of which one that fails is the last.

    Raises `AdapterUnavailable` if that has made no events, and none before it has.
    """
    last: Changed | None = None
    events: list[UserEvent] = []
    try:
        async with aclosing(steps):
            async for last in steps:
                events += last.events
                if last.failure is not None:
                    break
    except AdapterUnavailable as error:
        if last is None:
            raise
        last = last._replace(failure=error)
    assert last is not None  # there is a step at least
    return _known(last._replace(events=tuple(events)))


def _known(changed: Changed) -> Changed:
    """Raise a failure that leaves nothing to be seen to."""
    if changed.failure is not None and not changed.events:
        raise changed.failure
    return changed


def _chunks(items: Sequence[T], size: int = MAX_AT_ONCE) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
