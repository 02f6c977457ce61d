"""The lease by which a worker's sockets are present: renewed as long as the worker lives.

A worker that could not renew it in time changes nothing before it has a lease again. Others may
have declared it dead meanwhile: then it has a new one, and puts everything in again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from fastapi_rooms.adapters.presence import Lease, SupportsPresence
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import NodeId

logger = logging.getLogger("fastapi_rooms")

BEATS = 4
"""In the time of a lease there are so many attempts to renew it."""

RETRY = 1.0
"""Seconds until it is tried again if the carrier does not answer; or one beat, if that is less."""


class LeaseKeeper:
    """Renews a lease.

    Args:
        node: the worker's id.
        interval: seconds from one beat to the next; a lease lasts for `BEATS` of them.
        on_new: called when there is a new lease: the carrier may know nothing of this worker.
        connection: something else after every connection to the carrier that was lost.
        on_renewed: called when the carrier may have lost some of what it was told: after a time in
            which it did not answer, with another connection, or a lease that had run down.
        on_overdue: called with the leases that nobody renews any more, or that were given back, at
            every beat.
    """

    def __init__(
        self,
        node: NodeId,
        adapter: SupportsPresence,
        interval: float,
        *,
        connection: Callable[[], object],
        on_new: Callable[[], None],
        on_renewed: Callable[[], None],
        on_overdue: Callable[[Sequence[Lease]], None],
    ) -> None:
        self.lease = Lease(node, 0)
        """The present one; number 0 before the first."""
        self.ttl = interval * BEATS
        """Seconds that a lease lasts."""
        self._adapter = adapter
        self._interval = interval
        self._connection, self._last_connection = connection, connection()
        self._on_new, self._on_renewed, self._on_overdue = on_new, on_renewed, on_overdue
        self._loop = asyncio.get_running_loop()
        self._valid_until = 0.0
        # Others could not renew theirs either while the carrier was away.
        self._reaps_from = self._loop.time() + self.ttl
        self._was_away = False
        self._doubted: Lease | None = None
        self._wanted = asyncio.Event()
        self._renewed = asyncio.Event()
        self._is_ending = False
        self._ended = asyncio.Event()

    @property
    def is_valid(self) -> bool:
        """Whether this worker may change something now."""
        return self._loop.time() < self._valid_until

    async def wait_until_valid(self) -> None:
        """Return once there is a lease by which something may be changed."""
        while not self.is_valid:
            self._renewed.clear()
            self._wanted.set()
            await self._renewed.wait()

    def doubt(self, lease: Lease) -> None:
        """A room says that a lease is not valid: have another, if it is the present one."""
        if lease == self.lease:
            self._doubted = lease
            self._valid_until = 0.0
            self._wanted.set()

    async def run(self) -> None:
        """Renew it, again and again."""
        try:
            await self._run()
        finally:
            self._ended.set()

    async def end(self, timeout: float) -> None:
        """Renew it no more; return when what was under way is done, which may have made another.

        One that is not valid any more is renewed once. Takes so many seconds at most.
        """
        self._is_ending = True
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    async def give_back(self, timeout: float, *, is_over: bool) -> None:
        """Have the carrier forget it, or if not all is over, have others reap it from now on.

        It has been ended here. If the carrier does not do it in so many seconds, it ends by itself.
        """
        if self.is_valid:
            with suppress(TimeoutError, AdapterUnavailable):
                async with asyncio.timeout(timeout):
                    if is_over:
                        await self._adapter.bury(self.lease)
                    else:
                        await self._adapter.beat(self.lease, 0, reaps=False)

    async def _run(self) -> None:
        while not (self._is_ending and self.is_valid):
            try:
                delay = await self._beat()
            except AdapterUnavailable as error:
                logger.debug("The lease of this worker's presence was not renewed: %s", error)
                delay = self._retry()
            except Exception:
                logger.exception("The lease of this worker's presence could not be renewed")
                delay = self._retry()
            if self._is_ending:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._wanted.wait()
            self._wanted.clear()

    def _retry(self) -> float:
        self._was_away = True
        return min(RETRY, self._interval)

    async def _beat(self) -> float:
        """Renew it; returns the seconds until the next time."""
        began = self._loop.time()
        reaps = began >= self._reaps_from
        beat = await self._adapter.beat(self.lease, self.ttl, reaps=reaps)
        if beat.lease == self._doubted:
            # What has the leases has lost that this worker was declared dead, and rooms have not.
            unknown = Lease(self.lease.node, self.lease.number + 1)
            beat = await self._adapter.beat(unknown, self.ttl, reaps=False)
        self._doubted = None
        now = self._loop.time()
        if self._was_away or beat.is_late or now - began > self._interval:
            self._reaps_from = now + self.ttl
        is_new, is_first = beat.lease != self.lease, not self.lease.number
        connection = self._connection()
        was_away = self._was_away or beat.is_late or connection != self._last_connection
        self._was_away, self._last_connection = False, connection
        self.lease = beat.lease
        self._valid_until = began + self.ttl - self._interval
        self._renewed.set()
        if is_new and not is_first:
            logger.warning(
                "This worker was taken for dead, or its lease was lost: those who are present here "
                "are put in again"
            )
            self._on_new()
        elif was_away:
            self._on_renewed()
        if beat.overdue and now < began + self._interval:
            self._on_overdue([lease for lease in beat.overdue if lease.node != self.lease.node])
        return self._interval
