"""What a namespace may have missed while its adapter did not receive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain

from fastapi_rooms import concurrency
from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.types import Room, Sid
from fastapi_rooms.worker.events import Gap
from fastapi_rooms.worker.run import Run
from fastapi_rooms.worker.runtime import Runtime


def gap_of(
    outage: Outage,
    namespace: str,
    rooms: Sequence[Collection[Room]],
    remembers: Callable[[Room], bool],
    sids: AbstractSet[Sid],
    runtime: Runtime,
) -> Iterator[Gap | None]:
    """The gap that an outage is in a namespace, whose members and listeners are in these rooms.

    There is at most one. Where there are many rooms, `None` comes after each part of the work. On
    shards, the channel of the namespace may be on the one that was lost: any room may then have
    missed what was sent to several. Rooms that remember are none of it: they read what they missed.
    """
    names = list(chain.from_iterable(map(list, rooms)))  # as they are now, at no step for each
    lost, of_room = outage.channels, runtime.channels.of_room
    everyone = runtime.channels.of_namespace(namespace) in lost
    all_rooms = runtime.sharded and everyone
    missed: dict[Room, None] = {}  # once, where there are members and listeners
    any_sid = False
    size = concurrency.SLICE
    for start in range(0, len(names), size):
        if len(names) > size:
            yield None
        for name in names[start : start + size]:
            if name in sids:
                any_sid = any_sid or of_room(namespace, name) in lost
            elif (all_rooms or of_room(namespace, name) in lost) and not remembers(name):
                missed[name] = None
    if missed or everyone or any_sid:
        yield Gap(outage.since, outage.until, tuple(missed))


def tell_gap(steps: Iterator[Gap | None], tell: Callable[[Gap], None], run: Run) -> None:
    """Tell the gap that `gap_of` finds: at once, or after as many turns as it takes.

    One that is found when the run is over is told to nobody.
    """
    for gap in steps:
        if gap is None:
            asyncio.get_running_loop().call_soon(tell_gap, steps, tell, run)
            return
        if not run.closed:
            tell(gap)
