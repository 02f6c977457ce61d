"""When graces are over, room by room: by one timer."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from fastapi_rooms.presence.host import Name

SAME_TIME = 0.05
"""Seconds between two times that count as the same."""


class Graces:
    """The rooms in which somebody's grace will be over.

    Args:
        on_over: called with the name of each room when the first grace there is over. After that
            the carrier says when the next one is.
    """

    def __init__(self, on_over: Callable[[Name], None]) -> None:
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._ends: list[tuple[float, Name]] = []  # a heap, with some that are so no more
        self._first: dict[Name, float] = {}  # by room
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many rooms there are."""
        return len(self._first)

    def expect(self, name: Name, delay: float) -> None:
        """A grace is over in so many seconds."""
        when = self._loop.time() + delay
        first = self._first.get(name)
        # The carrier counts in milliseconds, and says the same again and again.
        if first is None or when < first - SAME_TIME:
            self._first[name] = when
            heapq.heappush(self._ends, (when, name))
            if self._ends[0][1] == name:
                self._set_timer()

    def close(self) -> None:
        """Call nobody any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._ends and not self._is_closed:
            self._timer = self._loop.call_at(self._ends[0][0], self._call_due)

    def _call_due(self) -> None:
        now = self._loop.time()
        while self._ends and self._ends[0][0] <= now:
            when, name = heapq.heappop(self._ends)
            if self._first.get(name) == when:  # else another was earlier
                del self._first[name]
                self._on_over(name)
        self._set_timer()
