"""A namespace, as the runs of a manager see it."""

from __future__ import annotations

from typing import Protocol

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.cluster.known_rooms import ToldOfLosses
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.presence.host import ToldOfUsers
from fastapi_rooms.wire.envelope import Broadcast
from fastapi_rooms.wire.kept import InPlace
from fastapi_rooms.worker.drain import Drainable


class ManagedNamespace(ToldOfLosses, Protocol):
    """A namespace on this worker, as far as the manager runs it."""

    @property
    def presences(self) -> ToldOfUsers:
        """Who is present in it."""

    def receive(self, target: Target, payload: Payload, *, volatile: bool) -> None:
        """Deliver a message of another worker to this worker's members and listeners."""

    def received_in_place(self, placed: InPlace, message: Broadcast) -> None:
        """Deliver a message of a recoverable room."""

    def gap(self, outage: Outage) -> None:
        """Messages from other workers may have been missed."""

    def drainables(self) -> list[Drainable]:
        """Every client and listener, to be drained."""

    def leave_everyone(self) -> None:
        """Take out those who could not be drained in time."""

    async def close(self, timeout: float) -> None:
        """Let handlers finish, in so many seconds, and forget the run; everyone has left."""

    def forget(self) -> None:
        """Forget everyone of an event loop that is gone."""
