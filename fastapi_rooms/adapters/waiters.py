"""The `subscribe` calls that wait until their channels are live."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Channel


class _Waiter:
    """One `subscribe` call: done when its last channel is live."""

    __slots__ = ("done", "missing")

    def __init__(self, missing: set[Channel]) -> None:
        self.missing = missing
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Waiters:
    """The waiting calls of an adapter, whichever of its connections their channels are on."""

    def __init__(self) -> None:
        self._waiters: dict[Channel, dict[_Waiter, None]] = {}

    async def wait(self, missing: set[Channel]) -> None:
        """Return when every channel has been live. Raises `AdapterUnavailable` if one is refused.

        A caller that is cancelled leaves nothing behind.
        """
        waiter = _Waiter(missing)
        for channel in missing:
            self._waiters.setdefault(channel, {})[waiter] = None
        try:
            await waiter.done
        finally:
            for channel in waiter.missing:  # empty unless the call failed or was cancelled
                del self._waiters[channel][waiter]
                if not self._waiters[channel]:
                    del self._waiters[channel]

    def wake(self, channel: Channel) -> None:
        """The channel is live."""
        for waiter in self._waiters.pop(channel, ()):
            waiter.missing.discard(channel)
            if not waiter.missing and not waiter.done.done():
                waiter.done.set_result(None)

    def fail(self, channels: Iterable[Channel], reason: str) -> None:
        """The channels will not become live."""
        for channel in channels:
            for waiter in self._waiters.get(channel, ()):
                if not waiter.done.done():
                    waiter.done.set_exception(AdapterUnavailable(reason))

    def close(self) -> None:
        """Fail the calls that still wait."""
        self.fail(list(self._waiters), "The manager was closed.")
