"""Takes the sockets of workers that have died out of their rooms; others may do it, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from fastapi_rooms.adapters.presence import Changed, Lease, RoomKey, SupportsPresence, Terms
from fastapi_rooms.concurrency import Tasks
from fastapi_rooms.presence.failures import log
from fastapi_rooms.presence.host import Name


class Reaper:
    """Reaps who was declared dead.

    Args:
        adapter: knows who is present.
        tasks: those of the run.
        key_of: a room, as the adapter knows it.
        terms_of: what its changes depend on.
        changed: is told what became of it; raises why not all was done.
        see_to: sees to the users of a room who are in their grace, from when it is done.
    """

    def __init__(
        self,
        adapter: SupportsPresence,
        tasks: Tasks,
        key_of: Callable[[Name], RoomKey],
        terms_of: Callable[[Name], Terms],
        changed: Callable[[Name, Changed], None],
        see_to: Callable[[Name], Awaitable[None]],
    ) -> None:
        self._adapter = adapter
        self._tasks = tasks
        self._key_of = key_of
        self._terms_of = terms_of
        self._changed = changed
        self._see_to = see_to
        self._reaping: set[Lease] = set()

    def reap_all(self, leases: Sequence[Lease]) -> None:
        """Reap these, each once at a time."""
        for lease in leases:
            if lease not in self._reaping:
                self._reaping.add(lease)
                self._tasks.start(self._reap(lease), "fastapi_rooms presence reaper")

    async def _reap(self, lease: Lease) -> None:
        try:
            for key in await self._adapter.rooms_of(lease):
                name = Name.of(key)
                if name is not None:
                    terms = self._terms_of(name)
                    changed = await self._adapter.reap(self._key_of(name), lease, terms)
                    self._changed(name, changed)
                    if changed.next_leave is not None or not changed.is_whole:
                        await self._see_to(name)
            await self._adapter.bury(lease)
        except Exception as error:  # noqa: BLE001 -- at the next beat it is tried again
            log(error, f"The sockets of worker {lease.node} could not be taken out")
        finally:
            self._reaping.discard(lease)
