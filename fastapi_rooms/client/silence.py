"""Whether anybody is at the other end of a connection that claims to be open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Silence:
    """Ends a connection on which nothing has come for too long. There is no timer for each frame.

    Args:
        seconds: what is too long; `None`: nothing is.
        end: ends the connection.
    """

    def __init__(self, seconds: float | None, end: Callable[[], None]) -> None:
        self._seconds = seconds
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False
        """Whether it has ended the connection."""
        self.is_listening = True
        """Whether somebody reads; who does not hears nothing."""
        self._look()

    def heard(self) -> None:
        """Something has come."""
        self._heard = self._loop.time()

    def stop(self) -> None:
        """The connection has ended in another way."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._seconds is None:
            return
        if not self.is_listening:
            self.heard()
        left = self._heard + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.is_over = True
            self._end()
