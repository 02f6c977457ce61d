"""What `SupportsPresence` asks for, whoever is asked: one Redis, or the nodes of a cluster.

A room is changed in one step, by a script, and with it the set of the worker's rooms, by which it
is found if the worker dies. In a cluster that set is of the same slot. There is no moment in which
one of the two is written and the other is not, whoever is killed; and what a node has lost as
another takes its place, both have lost.

The sets of a user's rooms and of a socket's lead there, too. On one Redis they change in that step
as well, and a user who leaves is removed after it. In a cluster they are at other nodes. They are
written after the room, and who joins does not wait for them:

* **A join adds.** If the worker is killed before that, `rooms_of_user` lacks the room as long as
  the socket of the dead is in it: until its lease has ended. If it fails, the room is not whole to
  the next comparison, which has all of it put in again.
* **A leave removes**, looks at the room once more, and puts back who is there, as others may have
  come between any two of these steps. It waits until what this worker has begun to add for
  earlier joins of the room is done. Else that could come last, and nobody would look after it.
* **Nothing is added before the room is changed.** Whoever has just seen the user leave would
  remove it, look at the room, and find no reason to put it back.

So a join is one round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import (
    Beat,
    Changed,
    Entry,
    Lease,
    RoomChange,
    Sums,
    Terms,
    UserEvent,
)
from fastapi_rooms.adapters.redis.history.refusals import explain
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence import lease_script, mend_script, replies, room_script
from fastapi_rooms.adapters.redis.presence.calls import Script
from fastapi_rooms.adapters.redis.presence.indexes import KEPT, RoomIndexes
from fastapi_rooms.adapters.redis.presence.keys import keys_of, user_key, workers_key
from fastapi_rooms.adapters.redis.presence.reader import Call, Part
from fastapi_rooms.adapters.redis.presence.room_answer import decode
from fastapi_rooms.adapters.redis.presence.room_script import MAX_AT_ONCE, NOBODY, Step
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid

T = TypeVar("T")

Outcome: TypeAlias = Changed | AdapterUnavailable


class Made(NamedTuple):
    """A step, and what it has done."""

    step: Step
    changed: Changed
    sockets: int
    """How many of the worker there are now."""


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
        encode = partial(lease_script.encode, self._prefix, lease, ttl, reaps=reaps)
        reply = await self._call(workers_key(self._prefix), encode)
        return lease_script.decode(reply, lease)

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        """The rooms to be reaped."""
        found: dict[bytes, None] = {}
        for key in await self._indexes(lease):
            found.update([(name, None) async for name in self._names(key)])
        return [*found]

    async def bury(self, lease: Lease) -> None:
        """Forget the rooms of a worker, and then the worker."""
        await self._forget(lease, await self._indexes(lease))

    async def _forget(self, lease: Lease, indexes: Sequence[bytes]) -> None:
        leases = workers_key(self._prefix)
        await self._read(
            [Part(key, pack(b"DEL", key), 1) for key in indexes],
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
            for sids in _chunks([entry.sid for entry in some]):
                if changed.fenced:
                    return
                changed = await self._step(Step("reap", room, lease, terms, leave=sids))
                yield changed

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
            changed = await self._step(each)
            yield changed
            if changed.fenced:
                break

    async def change_rooms(
        self, lease: Lease, changes: Sequence[RoomChange], done: Callable[[int, Outcome], None]
    ) -> None:
        """Ask about the rooms of one node together; about one with very many sockets, apart."""
        steps: list[tuple[int, Step]] = []
        work: list[Awaitable[None]] = []
        for at, (room, terms, enter, leave) in enumerate(changes):
            if len(enter) + len(leave) <= MAX_AT_ONCE:
                steps.append((at, Step("change", room, lease, terms, enter, leave)))
            else:
                work.append(self._change_many(at, lease, changes[at], done))
        work += [self._change_some(some, done) for some in self._together(steps)]
        if len(work) == 1:
            await work[0]
        else:
            await asyncio.gather(*work)

    async def _change_many(
        self, at: int, lease: Lease, change: RoomChange, done: Callable[[int, Outcome], None]
    ) -> None:
        room, terms, enter, leave = change
        outcome: Outcome
        try:
            outcome = await self.change(room, lease, terms, enter=enter, leave=leave)
        except AdapterUnavailable as error:
            outcome = error
        done(at, outcome)

    async def _change_some(
        self, steps: Sequence[tuple[int, Step]], done: Callable[[int, Outcome], None]
    ) -> None:
        made, added = list[Made](), asyncio.get_running_loop().create_future()

        def answered(at: int, outcome: list[Any] | AdapterUnavailable) -> None:
            place, step = steps[at]
            try:
                made.append(Made(step, *decode(_reply_in(outcome))))
            except AdapterUnavailable as error:
                done(place, error)
            else:
                self._is_made(made[-1], added)
                done(place, made[-1].changed)

        try:
            await self._call_each([self._call_of(step) for _, step in steps], answered)
            await self._follow(made, added)
        finally:
            _set(added)

    def _together(self, steps: Sequence[tuple[int, Step]]) -> Iterable[Sequence[tuple[int, Step]]]:
        """Those that are asked about together, as they are of one node."""
        return [steps] if steps else []

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
            yield await self._step(Step("change", room, lease, terms))  # graces have an end again

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """Ask for the sums, and have the rooms kept for longer."""
        found: list[Sums] = []
        for some in _chunks(rooms, ROOMS_AT_ONCE):
            leads = dict.fromkeys([self._index(lease, room.name) for room in some])
            await self._read([Part(key, pack(b"PEXPIRE", key, KEPT), 1) for key in leads])
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
        """A step, and what follows it."""
        key, encode = self._call_of(step)
        made = Made(step, *decode(await self._call(key, encode)))
        added = asyncio.get_running_loop().create_future()
        self._is_made(made, added)
        try:
            failure = await self._follow([made], added)
        finally:
            _set(added)
        return made.changed._replace(failure=made.changed.failure or failure)

    def _call_of(self, step: Step) -> Call:
        keys = self._keys(step)
        return Call(keys[0], partial(room_script.encode, self._script, keys, step))

    def _keys(self, step: Step) -> list[bytes]:
        """The keys that a step is about."""
        keys = [*keys_of(self._prefix, step.room.name)]
        if step.lease is not NOBODY:
            keys.append(self._index(step.lease, step.room.name))
        return keys

    def _is_made(self, made: Made, added: asyncio.Future[None]) -> None:
        """A step was made; `added` is done when what leads to its room has been added."""

    async def _follow(
        self,
        made: Sequence[Made],
        added: asyncio.Future[None],  # noqa: ARG002 -- all of it has been added
    ) -> AdapterUnavailable | None:
        """Write what leads to rooms that were changed; returns why some of it was not."""
        leads = [lead for it in made for lead in self._users(it.step.room.name, it.changed.left)]
        await self._unindex(leads)
        return None

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
            leads = [lead for name in some for lead in self._users(name, [user])]
            answers = await self._read([self._look_for(it.room, it.field) for it in leads])
            found = [it for it, (is_there,) in zip(leads, answers, strict=True) if is_there == 1]
            rooms += [named[it.room] for it in found]
            await self._unindex([it for it in leads if it not in found])
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
            reply = await self._call(keys_of(self._prefix, room.name).truth, encode)
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


def _set(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def _reply_in(outcome: list[Any] | AdapterUnavailable) -> Any:
    """The one reply. Raises what there is in its place."""
    if isinstance(outcome, AdapterUnavailable):
        raise outcome
    return outcome[0]


def _chunks(items: Sequence[T], size: int = MAX_AT_ONCE) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
