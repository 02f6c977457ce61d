"""What every adapter has whose carrier knows who is present: the questions, handed on.

An adapter is made before it is started, and what knows the carrier with each start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi_rooms.adapters.presence import (
    Beat,
    Changed,
    Entry,
    Lease,
    Page,
    RoomChange,
    RoomKey,
    Sums,
    SupportsPresence,
    Terms,
)
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid


class DelegatesPresence:
    """Hands on what `SupportsPresence` asks for. Subclasses say to whom, by `_running_presence`."""

    def _running_presence(self) -> SupportsPresence:
        """Who does it. Raises `NotStarted` while the adapter is not started."""
        raise NotImplementedError

    def relinks(self) -> int:
        """How often it was connected anew."""
        return self._running_presence().relinks()

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        """Renew a worker's lease, or give it one."""
        return await self._running_presence().beat(lease, ttl, reaps=reaps)

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        """The names of the rooms that a worker may have had sockets in."""
        return await self._running_presence().rooms_of(lease)

    async def reap(self, room: RoomKey, lease: Lease, terms: Terms) -> Changed:
        """Take the sockets of a dead worker out of a room."""
        return await self._running_presence().reap(room, lease, terms)

    async def bury(self, lease: Lease) -> None:
        """Forget a lease."""
        await self._running_presence().bury(lease)

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
        """Have sockets of a worker leave and enter a room."""
        return await self._running_presence().change(
            room, lease, terms, enter=enter, leave=leave, quiet=quiet
        )

    async def change_rooms(
        self,
        lease: Lease,
        changes: Sequence[RoomChange],
        done: Callable[[int, Changed | AdapterUnavailable], None],
    ) -> None:
        """Change different rooms, and tell what became of each as soon as it is known."""
        await self._running_presence().change_rooms(lease, changes, done)

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        """Have exactly these sockets of a worker in a room."""
        return await self._running_presence().sync(room, lease, terms, entries, quiet=quiet)

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        """What each room has of a worker."""
        return await self._running_presence().sums(lease, rooms)

    async def sweep(self, room: RoomKey, terms: Terms) -> Changed:
        """Have those leave whose grace is over."""
        return await self._running_presence().sweep(room, terms)

    async def present(self, room: RoomKey, cursor: int = 0) -> Page:
        """A part of who is present."""
        return await self._running_presence().present(room, cursor)

    async def count(self, room: RoomKey) -> int:
        """How many users are present."""
        return await self._running_presence().count(room)

    async def is_present(self, room: RoomKey, user: str) -> bool:
        """Whether a user is present."""
        return await self._running_presence().is_present(room, user)

    async def rooms_of_user(self, namespace: str, user: str) -> list[str]:
        """The rooms in which a user is present."""
        return await self._running_presence().rooms_of_user(namespace, user)
