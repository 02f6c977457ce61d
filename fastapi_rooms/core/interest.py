"""Which channels this worker needs: reference counts, with a delay before the last release counts.

Every membership, listener and pending join holds its channel once and releases it once. So a
channel is needed while its count is above zero, in whatever order joins and leaves happen.

A channel that is no longer held lingers: rooms often empty and fill again within seconds, as
when a page is reloaded, and would otherwise cost an unsubscribe and a subscribe each time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import islice

from fastapi_rooms.types import Channel


class Interest:
    """Reference counts of channels. All times are seconds of one monotonic clock."""

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._counts: dict[Channel, int] = {}
        self._idle_since: dict[Channel, float] = {}

    def __contains__(self, channel: Channel) -> bool:
        """Whether the channel is held now; one that lingers is not."""
        return channel in self._counts

    def hold(self, channels: Iterable[Channel]) -> None:
        """Add a reference to each channel."""
        for channel in channels:
            self._counts[channel] = self._counts.get(channel, 0) + 1
            self._idle_since.pop(channel, None)

    def release(self, channels: Iterable[Channel], now: float) -> None:
        """Remove a reference from each channel; after its last one it starts to linger."""
        for channel in channels:
            count = self._counts[channel] - 1
            if count:
                self._counts[channel] = count
            else:
                del self._counts[channel]
                self._idle_since[channel] = now

    def expired(self, now: float, limit: int = sys.maxsize) -> list[Channel]:
        """Remove and return channels that have lingered long enough, to be unsubscribed.

        They are at most `limit`; `next_expiry` says when to ask for more.
        """
        due: list[Channel] = []
        for channel, since in islice(self._idle_since.items(), limit):  # by their last release
            if since + self._linger > now:
                break
            due.append(channel)
        for channel in due:
            del self._idle_since[channel]
        return due

    def next_expiry(self) -> float | None:
        """When the next channel has lingered long enough, or `None` if none lingers."""
        for since in self._idle_since.values():
            return since + self._linger
        return None
