"""What other workers sent faster than this worker could write it: dropped, counted, and told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Protocol

from fastapi_rooms.core.target import Target
from fastapi_rooms.types import Room

logger = logging.getLogger("fastapi_rooms")

TOLD_AFTER = 1.0
"""Seconds from the first message that is dropped to the gap that tells of it, and of all others."""

IN_TRANSIT = 5.0
"""Seconds that a message may have taken to get here: the gap begins by so much earlier."""


class Overloaded(Protocol):
    """A namespace, as far as messages to it can be dropped."""

    @property
    def rooms(self) -> Mapping[Room, object]:
        """Its rooms on this worker."""

    def missed(self, since: float, until: float, rooms: set[Room] | None) -> None:
        """Messages to these rooms, or to everyone, were dropped between two times."""


class Overload:
    """Counts the messages that are dropped, and tells their namespaces once a second."""

    def __init__(self) -> None:
        self.count = 0
        """How many messages have been dropped."""
        self._missed: dict[Overloaded, set[Room] | None] = {}
        self._since = 0.0
        self._told = 0
        self._is_lasting = False
        self._timer: asyncio.TimerHandle | None = None

    def dropped(self, namespace: Overloaded, target: Target) -> None:
        """A message to the members of a namespace is dropped."""
        self.count += 1
        if not self._missed:
            self._since = time.time() - IN_TRANSIT
        rooms = self._missed.setdefault(namespace, set())
        if target.rooms is None:
            self._missed[namespace] = None
        elif rooms is not None:
            here = namespace.rooms
            rooms.update(room for room in target.rooms if room in here)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TOLD_AFTER, self._tell)

    def close(self) -> None:
        """Tell nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        missed, self._missed = self._missed, {}
        if not missed:
            logger.warning(
                "Messages from other workers are written as fast as they arrive again; %d were "
                "dropped in all",
                self.count - self._told,
            )
            self._told, self._is_lasting = self.count, False
            return
        if not self._is_lasting:
            self._is_lasting = True
            logger.warning(
                "Messages from other workers arrive faster than this worker can write them to its "
                "clients: %d were dropped within a second. `health.dropped` counts them, and a "
                "gap tells of their rooms.",
                self.count - self._told,
            )
        # To find out whether it goes on; and no more often, however much arrives.
        self._timer = asyncio.get_running_loop().call_later(TOLD_AFTER, self._tell)
        until = time.time()
        for namespace, rooms in missed.items():
            namespace.missed(self._since, until, rooms)
