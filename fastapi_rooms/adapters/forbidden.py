"""Channels that the carrier has come to forbid while they were wanted, and what the log says.

A join that is forbidden fails, so its caller knows. But permissions can be withdrawn from channels
that have members already: those rooms hear nothing from other workers any more, and only the log
tells. The same goes for channels that may not be unsubscribed from: they stay, and add up.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from heapq import nsmallest

from fastapi_rooms.core.printable import printable
from fastapi_rooms.types import Channel

logger = logging.getLogger("fastapi_rooms")

NAMED = 5
"""How many channels a line of the log names."""


class Forbidden:
    """The forbidden channels of one subscriber.

    Each is logged once, and the end of it when none is left. `carrier` is the name to log.
    """

    def __init__(self, carrier: str) -> None:
        self._carrier = carrier
        self.channels: frozenset[Channel] = frozenset()
        self._logged_unsubscribe = False

    def update(self, channels: frozenset[Channel], reason: str) -> None:
        """Note the channels that are forbidden now; `reason` is the carrier's latest refusal."""
        before, self.channels = self.channels, channels
        added = channels - before
        if added:
            named = nsmallest(NAMED, added)
            names = [printable(channel.decode(errors="backslashreplace")) for channel in named]
            more = ["…"] if len(added) > NAMED else []
            logger.error(
                "%s forbids %d channel(s) that have members here, who hear nothing from other "
                "workers until it allows them again: %s (%s)",
                self._carrier,
                len(added),
                ", ".join(names + more),
                reason,
            )
        elif before and not channels:
            logger.warning("%s forbids no channel any more that has members here", self._carrier)

    def unsubscribe_refused(self, reason: str) -> None:
        """Note that unsubscribing is forbidden as well; `reason` is the carrier's refusal."""
        if not self._logged_unsubscribe:
            self._logged_unsubscribe = True
            logger.error(
                "%s forbids to unsubscribe: this worker goes on to receive what is sent to "
                "rooms without members here, and they add up until it allows it (%s)",
                self._carrier,
                reason,
            )

    def forget(self, channels: Iterable[Channel]) -> None:
        """Drop channels that are not wanted any more."""
        if self.channels:
            self.channels = self.channels.difference(channels)
