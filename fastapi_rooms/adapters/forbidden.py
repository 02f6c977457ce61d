"""The channels that Redis has come to forbid while they were wanted, and what the log says of them.

A join that is forbidden fails, and whoever joins knows. But rights can be withdrawn from those who
are in already: their rooms hear nothing from other workers any more, and nobody else would say so.
Nor would anybody of channels that may not be left: they go on, and become more and more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fastapi_rooms.types import Channel

logger = logging.getLogger("fastapi_rooms")

NAMED = 5
"""How many channels a line of the log names."""


class Forbidden:
    """Those of one subscriber. Each is told of once, and the end of it when none is left."""

    def __init__(self) -> None:
        self.channels: frozenset[Channel] = frozenset()
        self._told_of_leaving = False

    def update(self, channels: frozenset[Channel], reason: str) -> None:
        """These are, by the last of Redis' answers; `reason` is what it says."""
        before, self.channels = self.channels, channels
        fresh = channels - before
        if fresh:
            names = [channel.decode(errors="backslashreplace") for channel in sorted(fresh)[:NAMED]]
            more = ["…"] if len(fresh) > NAMED else []
            logger.error(
                "Redis forbids %d channel(s) that have members here, who hear nothing from other "
                "workers until it allows them again: %s (%s)",
                len(fresh),
                ", ".join(names + more),
                reason,
            )
        elif before and not channels:
            logger.warning("Redis forbids no channel any more that has members here")

    def may_not_leave(self, reason: str) -> None:
        """Redis does not let us unsubscribe; `reason` is what it says."""
        if not self._told_of_leaving:
            self._told_of_leaving = True
            logger.error(
                "Redis forbids to unsubscribe: this worker goes on to receive what is sent to "
                "rooms that nobody is in here any more, and they add up until it allows it (%s)",
                reason,
            )

    def forget(self, channels: Iterable[Channel]) -> None:
        """These are not wanted any more."""
        if self.channels:
            self.channels = self.channels.difference(channels)
