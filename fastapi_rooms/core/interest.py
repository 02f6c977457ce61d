"""Which channels this worker wants: one count for each, and a short linger after the last.

Strategy: every membership, every listener and every join under way holds its channel once and
releases it once, whatever happens in between; so a channel is wanted while its count is above zero,
and no order of joins and leaves can go wrong. A channel that nobody holds lingers, as rooms that
empty and fill again (a page reloads, the last one in a game reconnects) would otherwise cost two
commands each time.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi_rooms.types import Channel


class Interest:
    """Counts who wants each channel. Times are seconds of any one monotonic clock."""

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._holds: dict[Channel, int] = {}
        self._idle_since: dict[Channel, float] = {}

    def __contains__(self, channel: Channel) -> bool:
        """Whether anyone holds the channel now."""
        return channel in self._holds

    def hold(self, channels: Iterable[Channel]) -> None:
        """Want every one of `channels` once more."""
        for channel in channels:
            self._holds[channel] = self._holds.get(channel, 0) + 1
            self._idle_since.pop(channel, None)

    def release(self, channels: Iterable[Channel], now: float) -> None:
        """Want every one of `channels` once less; at the last, its linger begins."""
        for channel in channels:
            count = self._holds[channel] - 1
            if count:
                self._holds[channel] = count
            else:
                del self._holds[channel]
                self._idle_since[channel] = now

    def expired(self, now: float) -> list[Channel]:
        """Take out the channels whose linger is over: these are to be unsubscribed."""
        due = []
        for channel, since in self._idle_since.items():  # the longest idle come first
            if since + self._linger > now:
                break
            due.append(channel)
        for channel in due:
            del self._idle_since[channel]
        return due

    def next_expiry(self) -> float | None:
        """When the next linger is over, or `None` while nothing lingers."""
        for since in self._idle_since.values():
            return since + self._linger
        return None
