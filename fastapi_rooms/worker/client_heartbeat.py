"""Framed clients that nothing is written to are written a heartbeat.

A script in a browser does not see the pings of the server. By this it knows that a connection lives
which is silent, and that one is dead which claims to be open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from fastapi_rooms.types import Sid
from fastapi_rooms.wire.client_framing import HEARTBEAT_SECONDS
from fastapi_rooms.worker.framed_transport import FramedTransport

_ROUND = HEARTBEAT_SECONDS / 2
"""Seconds in which each client is looked at once: silence is over after two of them."""

_STEPS = 50
"""A round is so many turns of the event loop: of 100,000 clients, 2,000 are looked at in one."""


class ClientHeartbeat:
    """Looks at one namespace's framed clients, some at a time, as long as there are any.

    Args:
        clients: their transports; that of a client that has left is not there any more.
    """

    def __init__(self, clients: Mapping[Sid, FramedTransport]) -> None:
        self._clients = clients
        self._round: list[Sid] = []  # the next is the last; an empty deque is ten times as large
        self._step = 0  # how many clients are looked at in one turn
        self._turns_left = 0  # of this round, whether or not there is anybody left to look at
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """There is a client."""
        if self._timer is None:
            self._schedule()

    def stop(self) -> None:
        """There is none any more."""
        if self._timer is not None:
            self._timer.cancel()
            self.forget()

    def forget(self) -> None:
        """The event loop is gone."""
        self._timer = None
        self._round.clear()
        self._turns_left = 0

    def look(self) -> None:
        """Look at some clients, and write to those that were silent since the last time."""
        if not self._turns_left:
            self._turns_left = _STEPS
            self._round.extend(self._clients)
            self._round.reverse()
            self._step = -(-len(self._round) // _STEPS)
        self._turns_left -= 1
        for _ in range(min(self._step, len(self._round))):
            transport = self._clients.get(self._round.pop())
            if transport is not None:
                if transport.is_silent:
                    transport.answer()
                transport.is_silent = True

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_ROUND / _STEPS, self._tick)

    def _tick(self) -> None:
        self._schedule()
        self.look()
