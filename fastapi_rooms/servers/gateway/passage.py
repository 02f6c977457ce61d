"""The way to one worker, for the messages of all connections with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi_rooms.core.in_flight import InFlight
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind


class Passage:
    """Limits what is on its way to one worker: see `core.in_flight`.

    Args:
        publish: publishes a frame to this worker that belongs to no connection.
    """

    def __init__(self, publish: Callable[[FrameKind, bytes], Awaitable[object]]) -> None:
        self._publish = publish
        self._in_flight = InFlight()

    @property
    def has_room(self) -> bool:
        """Whether a message may be sent now."""
        return self._in_flight.has_room

    def sent(self, size: int) -> None:
        """A message is about to be sent."""
        mark = self._in_flight.sent(size)
        if mark is not None:
            self._send(mark)

    def wait(self, size: int, go: Callable[[], None]) -> None:
        """Have `go` called when a message may be sent, which counts as sent by then."""
        self._send(self._in_flight.wait(size, go))

    def give_up(self, go: Callable[[], None]) -> None:
        """Do not call that any more."""
        self._in_flight.give_up(go)

    def arrived(self, mark: int, limit: int) -> None:
        """The other side has got all that was sent before this mark."""
        self._send(self._in_flight.arrived(mark, limit))

    def tick(self) -> None:
        """Some time has passed: a mark may be lost, as all frames may."""
        self._send(self._in_flight.overdue)

    def _send(self, mark: int | None) -> None:
        if mark is not None:
            post(self._publish(FrameKind.MARK, wire.pack_mark(mark)))
