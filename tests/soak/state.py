"""What a worker holds on to, asked of itself."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from fastapi_rooms import RoomManager

PACKAGE = "fastapi_rooms"
CONTAINERS = (dict, list, set, frozenset, deque, WeakValueDictionary, WeakSet)
LIMITS = {
    "._duplicates._origins[]": 64,  # pages of numbers: 32 of each other worker
    "._monitor._answered": 2,  # who has answered the last time
    ".events._handlers": 7,  # one list for each event that ever had a handler
}
"""Containers that may have more in them than at the start, by the end of their path; how much."""


@dataclass(frozen=True)
class State:
    """A worker at one moment."""

    containers: dict[str, int]
    """How much is in each dict, set, list and deque that the manager leads to, by its path."""
    tasks: int
    files: int
    """Open file descriptors."""
    objects: dict[str, int]
    """How many objects of each type the collector knows of, after it has collected."""
    health: dict[str, Any]

    @classmethod
    def of(cls, rooms: RoomManager) -> State:
        gc.collect()
        objects = Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in gc.get_objects())
        return cls(
            containers=dict(containers(rooms, "rooms", set())),
            tasks=len(asyncio.all_tasks()),
            files=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 -- no path of it is needed
            objects=dict(objects),
            health=asdict(rooms.health),
        )


def containers(thing: object, path: str, seen: set[int]) -> Iterator[tuple[str, int]]:
    """The size of every container that an object of this package leads to, through others of it.

    What is in a container is looked at, too, but under one path: there are as many as there are.
    """
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, CONTAINERS):
        yield path, len(thing)
        sizes: Counter[str] = Counter()
        for item in [*thing.values()] if hasattr(thing, "values") else [*thing]:
            for name, size in containers(item, f"{path}[]", seen):
                sizes[name] += size
        yield from sizes.items()
    elif type(thing).__module__.startswith(PACKAGE) and not isinstance(thing, type):
        for name, value in _attributes(thing):
            yield from containers(value, f"{path}.{name}", seen)


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    yield from list(getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield name, getattr(thing, name)


def left_behind(before: Mapping[str, int], after: Mapping[str, int]) -> list[str]:
    """The containers that have more in them than before."""
    return [
        f"{path} has {size}, had {before.get(path, 0)}"
        for path, size in sorted(after.items())
        if size > max(before.get(path, 0), _limit(path))
    ]


def _limit(path: str) -> int:
    return next((limit for end, limit in LIMITS.items() if path.endswith(end)), 0)


def grown(before: Mapping[str, int], after: Mapping[str, int], least: int) -> list[str]:
    """The types that there are more objects of than before, by at least so many."""
    growth = {name: count - before.get(name, 0) for name, count in after.items()}
    most: Collection[tuple[str, int]] = Counter(growth).most_common()
    return [f"+{more} {name}" for name, more in most if more >= least]


class Tracing:
    """Compares where memory was allocated, where Python traces that."""

    def __init__(self) -> None:
        self._before: tracemalloc.Snapshot | None = None

    def grown(self) -> list[str]:
        """The places that have allocated most since this was last asked."""
        if not tracemalloc.is_tracing():
            return []
        gc.collect()
        snapshot = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(False, tracemalloc.__file__), tracemalloc.Filter(False, __file__)]
        )
        before, self._before = self._before, snapshot
        if before is None:
            return []
        return [str(line) for line in snapshot.compare_to(before, "lineno")[:15]]
