"""A carrier in a test's hands: in memory, and held, refused or broken as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi_rooms import AdapterUnavailable, MemoryAdapter
from fastapi_rooms.adapters.presence import (
    Beat,
    Changed,
    Entry,
    Lease,
    RoomChange,
    RoomKey,
    Sums,
    SupportsPresence,
    Terms,
)
from fastapi_rooms.types import Sid

AWAY = AdapterUnavailable("The carrier is away.")


async def change_each(
    carrier: SupportsPresence,
    lease: Lease,
    changes: Sequence[RoomChange],
    done: Callable[[int, Changed | AdapterUnavailable], None],
) -> None:
    """Change rooms by `change`, all at once: one that is held keeps no other."""

    async def change(at: int, each: RoomChange) -> None:
        room, terms, enter, leave = each
        outcome: Changed | AdapterUnavailable
        try:
            outcome = await carrier.change(room, lease, terms, enter=enter, leave=leave)
        except AdapterUnavailable as error:
            outcome = error
        done(at, outcome)

    await asyncio.gather(*(change(at, each) for at, each in enumerate(changes)))


class CarrierInHand(MemoryAdapter):
    """Does what it is asked as memory does, unless it is held, or is to raise something."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.errors: dict[str, Exception] = {}
        """What is raised, by the name of what is asked for."""
        self.answers: dict[str, Callable[[Any], Any]] = {}
        """What is made of an answer, by the same."""
        self.asked: list[str] = []
        self.waiting = 0
        """How many changes and syncs are held."""
        self.most_waiting = 0
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        """Let changes and syncs wait."""
        self._open.clear()

    def release(self) -> None:
        """Let them go on."""
        self._open.set()

    async def _ask(self, what: str, answer: Awaitable[Any]) -> Any:
        self.asked.append(what)
        if what in self.errors:
            answer.close()  # type: ignore[attr-defined]  # a coroutine, that is not awaited
            raise self.errors[what]
        if what in ("change", "sync") and not self._open.is_set():
            self.waiting += 1
            self.most_waiting = max(self.waiting, self.most_waiting)
            try:
                await self._open.wait()
            except asyncio.CancelledError:
                answer.close()  # type: ignore[attr-defined]  # as above
                raise
            finally:
                self.waiting -= 1
        found = await answer
        return self.answers[what](found) if what in self.answers else found

    async def beat(self, lease: Lease, ttl: float, *, reaps: bool) -> Beat:
        found: Beat = await self._ask("beat", super().beat(lease, ttl, reaps=reaps))
        return found

    async def rooms_of(self, lease: Lease) -> list[bytes]:
        found: list[bytes] = await self._ask("rooms_of", super().rooms_of(lease))
        return found

    async def reap(self, room: RoomKey, lease: Lease, terms: Terms) -> Changed:
        found: Changed = await self._ask("reap", super().reap(room, lease, terms))
        return found

    async def bury(self, lease: Lease) -> None:
        await self._ask("bury", super().bury(lease))

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
        found: Changed = await self._ask(
            "change", super().change(room, lease, terms, enter=enter, leave=leave, quiet=quiet)
        )
        return found

    async def change_rooms(
        self,
        lease: Lease,
        changes: Sequence[RoomChange],
        done: Callable[[int, Changed | AdapterUnavailable], None],
    ) -> None:
        await change_each(self, lease, changes, done)

    async def sync(
        self,
        room: RoomKey,
        lease: Lease,
        terms: Terms,
        entries: Sequence[Entry],
        *,
        quiet: bool = True,
    ) -> Changed:
        found: Changed = await self._ask(
            "sync", super().sync(room, lease, terms, entries, quiet=quiet)
        )
        return found

    async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> list[Sums]:
        found: list[Sums] = await self._ask("sums", super().sums(lease, rooms))
        return found
