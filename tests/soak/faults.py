"""What happens to Redis, and to one worker's wire to it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from fastapi_rooms.testing import Direction, RedisProxy, RedisServer


class Faults:
    """One fault after the other, each kind as often as any other, with time to recover between."""

    def __init__(self, redis: RedisServer, wire: RedisProxy, chance: random.Random) -> None:
        self._redis = redis
        self._wire = wire
        self._chance = chance
        self._longest = 0.0
        self.counts: Counter[str] = Counter()
        self._kinds: list[Callable[[], Awaitable[object]]] = [
            self.subscribers_killed,
            self.publishers_killed,
            self.paused,
            self.frozen,
            self.restarted_empty,
            self.wire_cut,
            self.wire_stalled,
        ]
        self._next: list[Callable[[], Awaitable[object]]] = []

    async def run(self, pause: float, over: asyncio.Event) -> None:
        """Go on until it is over, with about so many seconds between two of them."""
        self._longest = min(pause, 3.0)
        while not await _is_set_within(over, self._chance.uniform(0.5, 1.5) * pause):
            if not self._next:
                self._next = self._chance.sample(self._kinds, len(self._kinds))
            fault = self._next.pop()
            self.counts[fault.__name__.replace("_", " ")] += 1
            await fault()

    async def subscribers_killed(self) -> None:
        await asyncio.to_thread(self._redis.kill_connections, "pubsub")

    async def publishers_killed(self) -> None:
        await asyncio.to_thread(self._redis.kill_connections, "normal")

    async def paused(self) -> None:
        milliseconds = str(self._chance.randrange(200, 1000))
        await asyncio.to_thread(self._redis.command, "CLIENT", "PAUSE", milliseconds)

    async def frozen(self) -> None:
        self._redis.freeze()
        await asyncio.sleep(self._chance.uniform(0.1, self._longest))
        self._redis.thaw()

    async def restarted_empty(self) -> None:
        await asyncio.to_thread(self._redis.restart)

    async def wire_cut(self) -> None:
        """Cut it while answers are on their way, so that nobody knows what Redis has taken."""
        self._wire.slow(0.1, Direction.TO_CLIENT)
        await asyncio.sleep(0.3)
        self._wire.cut()
        self._wire.slow(0)

    async def wire_stalled(self) -> None:
        self._wire.stall()
        await asyncio.sleep(self._chance.uniform(0.1, self._longest))
        self._wire.resume()


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
