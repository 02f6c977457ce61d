"""How long one turn of the event loop takes while a worker with many rooms loses Redis.

    python -m benchmarks.turns 200000

Its subscribing connection is killed, and everything is subscribed again. A turn is counted by the
CPU time of the thread, so that other programs on the machine do not matter much.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from asyncio import events
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi_rooms import Gap, RoomManager
from fastapi_rooms.testing import RedisServer, eventually

SHOWN = 8
"""How many of the longest turns are printed."""

PART = 2000
"""Rooms that one listener listens to."""

PATIENCE = 60.0
"""Seconds that anything may take."""


@contextmanager
def counted_turns() -> Iterator[list[tuple[float, str]]]:
    """The seconds of every call that the event loop makes, and what it was."""
    turns: list[tuple[float, str]] = []
    handle: Any = events.Handle
    original = handle._run

    def run(self: Any) -> None:
        begin = time.thread_time()
        original(self)
        seconds = time.thread_time() - begin
        owner = getattr(self._callback, "__self__", None)
        turns.append((seconds, owner.get_name() if isinstance(owner, asyncio.Task) else repr(self)))

    handle._run = run
    try:
        yield turns
    finally:
        handle._run = original


async def measure(redis: RedisServer, rooms: int) -> None:
    """Subscribe, lose the connection, and print the longest turns until all is whole again."""
    async with RoomManager(redis.url, join_timeout=PATIENCE) as manager:
        gaps: list[Gap] = []
        manager.on("gap")(gaps.append)
        listening: list[int] = []

        async def listen(first: int) -> None:
            names = [f"room {number}" for number in range(first, min(first + PART, rooms))]
            async with manager.listen(*names) as messages:
                listening.append(first)
                async for _ in messages:
                    pass

        parts = range(0, rooms, PART)
        async with asyncio.TaskGroup() as tasks:
            listeners = [tasks.create_task(listen(first)) for first in parts]
            await eventually(lambda: len(listening) == len(parts), PATIENCE)
            gc.collect()
            gc.freeze()
            with counted_turns() as turns:
                begin = time.monotonic()
                await asyncio.to_thread(redis.command, "CLIENT", "KILL", "TYPE", "pubsub")
                await eventually(lambda: gaps and manager.health.reconnects, PATIENCE)
                seconds = time.monotonic() - begin
            print(f"{rooms} rooms: whole again after {seconds:.2f} s, {len(turns)} turns")
            for each, what in sorted(turns, reverse=True)[:SHOWN]:
                print(f"{each * 1000:7.1f} ms  {what[:100]}")
            for listener in listeners:
                listener.cancel()


def main() -> None:
    """Measure with a Redis of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", type=int, nargs="?", default=200_000)
    arguments = parser.parse_args()
    with RedisServer() as redis:
        asyncio.run(measure(redis, arguments.rooms))


if __name__ == "__main__":
    main()
