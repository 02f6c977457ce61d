"""Disconnects: out of every room at once, and closed a slice in each turn of the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from fastapi_rooms.concurrency import in_slices
from fastapi_rooms.core.membership import Left
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Sid
from fastapi_rooms.worker.socket import Socket

DISCONNECT_SLICE = 100
"""Sockets whose closing begins in one turn of the event loop; each goes on in turns of its own."""


class Client(Protocol):
    """A connected client, as far as its namespace needs it."""

    socket: Socket
    transport: Transport

    def disconnect(self, code: int, reason: str) -> None:
        """Leave the namespace, and close the client behind what was sent to it.

        Does nothing for one that has left.
        """

    def lost(self) -> None:
        """Leave the namespace, as the connection is lost."""

    async def drain(self, timeout: float) -> None:
        """Close the client as the worker drains, in at most so many seconds."""


class PendingDisconnect(NamedTuple):
    """A client whose socket is in no room any more, and is about to be closed."""

    client: Client
    left: Left
    code: int
    reason: str


class LeavingCrowd(Protocol):
    """Many who are out of every room, but for the maps: see `crowds.CrowdDisconnect`."""

    def __bool__(self) -> bool:
        """Whether there are any left."""

    def __contains__(self, sid: Sid) -> bool:
        """Whether one is among those left."""

    def take(self, count: int) -> list[PendingDisconnect]:
        """Take the next out of the maps."""

    def take_one(self, client: Client) -> PendingDisconnect:
        """Take one of them out of the maps."""


class Disconnects:
    """The disconnects of one namespace that are under way."""

    def __init__(self) -> None:
        self._pending: dict[Sid, PendingDisconnect] = {}
        self._crowds: dict[LeavingCrowd, None] = {}

    def __contains__(self, sid: Sid) -> bool:
        return sid in self._pending or any(sid in crowd for crowd in self._crowds)

    def add(self, pending: PendingDisconnect) -> None:
        """The socket is out of its rooms; `close` is to follow."""
        self._pending[pending.client.socket.sid] = pending

    def begin_crowd(self, crowd: LeavingCrowd) -> None:
        """Many are to be disconnected; `take` is to follow until none is left."""
        self._crowds[crowd] = None

    def take(self, crowd: LeavingCrowd, count: int) -> list[PendingDisconnect]:
        """Take the next of a crowd out of the maps; they are to be closed."""
        pending = crowd.take(count)
        for one in pending:
            self.add(one)
        return pending

    def end_crowd(self, crowd: LeavingCrowd) -> None:
        """None of a crowd is left."""
        self._crowds.pop(crowd, None)

    def pop(self, sid: Sid) -> PendingDisconnect | None:
        """The socket leaves the namespace."""
        return self._pending.pop(sid, None)

    async def close(self, pending: Sequence[PendingDisconnect]) -> None:
        """Begin to close these, and return when all of them are being closed."""
        begun = 0
        try:
            async for some in in_slices(pending, DISCONNECT_SLICE):
                begun += len(some)
                _close(some)
        finally:  # even if cancelled: what is out of its rooms already must be closed
            _close(pending[begun:])

    def begin(self, client: Client) -> None:
        """Begin to close this one, if it is to be closed, as its block is over."""
        for crowd in self._crowds:
            if client.socket.sid in crowd:
                self.add(crowd.take_one(client))
        pending = self._pending.get(client.socket.sid)
        if pending is not None and pending.client is client:
            _close((pending,))

    def close_now(self) -> None:
        """Begin to close all that are left."""
        for crowd in list(self._crowds):
            while crowd:
                self.take(crowd, DISCONNECT_SLICE)
            self.end_crowd(crowd)
        _close(list(self._pending.values()))

    def clear(self) -> None:
        """Forget those of an event loop that is gone."""
        self._pending.clear()
        self._crowds.clear()


def close_in_parts(pending: deque[PendingDisconnect]) -> Iterator[None]:
    """Begin to close these, a slice at each step, and keep none that is."""
    while pending:
        _close([pending.popleft() for _ in range(min(len(pending), DISCONNECT_SLICE))])
        if pending:
            yield


def _close(pending: Sequence[PendingDisconnect]) -> None:
    for client, _, code, reason in pending:
        client.disconnect(code, reason)
