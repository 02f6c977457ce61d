"""Who is present in the rooms of a bus: what `SupportsPresence` asks for, at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fastapi_rooms.adapters.memory.bus import MemoryBus
from fastapi_rooms.adapters.presence import (
    Beat,
    Changed,
    Entry,
    Lease,
    Page,
    RoomChange,
    RoomKey,
    Sums,
    Terms,
)
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid


class MemoryPresence:
    """The rooms of a bus. A change raises `AdapterUnavailable` while a subscriber is too slow.

    Args:
        bus: what keeps them, and tells its subscribers.
    """

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus

    def relinks(self) -> int:
        """Never: there is no connection."""
        return 0

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        """Renew a lease."""
        with self._bus.presence() as store:
            return store.beat(lease, ttl, time.monotonic(), reaps=reaps)

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        """Look at what has to be reaped."""
        with self._bus.presence() as store:
            return store.rooms_of(lease)

    async def bury(self, lease: Lease) -> None:
        """Forget a lease."""
        with self._bus.presence() as store:
            store.bury(lease)

    async def reap(self, room: RoomKey, lease: Lease, terms: Terms) -> Changed:
        """Reap a room, in one step."""
        with self._bus.telling(room) as (store, tell):
            return tell(store.reap(room.name, lease, terms, time.monotonic()))

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
        """Change a room, in one step."""
        with self._bus.telling(room) as (store, tell):
            changed = store.change(
                room.name, lease, terms, time.monotonic(), enter=enter, leave=leave, quiet=quiet
            )
            return tell(changed)

    async def change_rooms(
        self,
        lease: Lease,
        changes: Sequence[RoomChange],
        done: Callable[[int, Changed | AdapterUnavailable], None],
    ) -> None:
        """Change rooms, one after the other."""
        for at, (room, terms, enter, leave) in enumerate(changes):
            outcome: Changed | AdapterUnavailable
            try:
                outcome = await self.change(room, lease, terms, enter=enter, leave=leave)
            except AdapterUnavailable as error:
                outcome = error
            done(at, outcome)

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        """Change what differs, in one step."""
        with self._bus.telling(room) as (store, tell):
            return tell(store.sync(room.name, lease, terms, time.monotonic(), entries, quiet=quiet))

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """Look at what rooms have of a worker."""
        with self._bus.presence() as store:
            return [store.sums(room.name, lease) for room in rooms]

    async def sweep(self, room: RoomKey, terms: Terms) -> Changed:
        """Sweep a room, in one step."""
        with self._bus.telling(room) as (store, tell):
            return tell(store.sweep(room.name, terms, time.monotonic()))

    async def present(self, room: RoomKey, cursor: int = 0) -> Page:  # noqa: ARG002 -- one page
        """Look at all who are present: the first page is the last."""
        with self._bus.presence() as store:
            return store.present(room.name)

    async def count(self, room: RoomKey) -> int:
        """Look at how many are present."""
        with self._bus.presence() as store:
            return store.count(room.name)

    async def is_present(self, room: RoomKey, user: str) -> bool:
        """Look whether a user is present."""
        with self._bus.presence() as store:
            return store.is_present(room.name, user)

    async def rooms_of_user(self, namespace: str, user: str) -> list[str]:
        """Look where a user is present."""
        with self._bus.presence() as store:
            names = store.rooms_of_user(namespace, user)
        return [name.partition(b"#")[2].decode() for name in names]
