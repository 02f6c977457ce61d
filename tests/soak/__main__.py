"""Run the soak: `python -m tests.soak --seconds 600`. Its exit status is 1 if anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastapi_rooms.testing import RedisProxy, RedisServer, eventually
from tests.integration.clients import http
from tests.integration.servers import Server, starter, uvicorn
from tests.soak.crowd import Crowd, Size
from tests.soak.faults import Faults
from tests.soak.ledger import Ledger
from tests.soak.memory import Memory, is_supported
from tests.soak.state import State
from tests.soak.verdict import MEGABYTE, Worker

APP = "tests.soak.app:app"
QUIET_TIMEOUT = 20.0
"""Seconds that what was said last has to arrive, and what is left has to go."""

_COMPLAINT = re.compile(
    r"Traceback|never awaited|was destroyed|never retrieved|could not be delivered"
)


def say(line: str = "") -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Soak:
    """Two workers, their Redis, and what is found out about them."""

    def __init__(
        self, servers: Sequence[Server], redis: RedisServer, wire: RedisProxy, seed: int
    ) -> None:
        self._servers = servers
        self._chance = random.Random(seed)
        self._ledger = Ledger()
        self._faults = Faults(redis, wire, self._chance)
        self._workers: list[Worker] = []

    async def run(self, cycles: int, seconds: float, size: Size) -> list[str]:
        """Go through the cycles; returns what is wrong."""
        asyncio.get_running_loop().set_exception_handler(self._failed)
        for server in self._servers:
            await self._is_ready(server)
        self._workers = [
            Worker(await self._state(server), await self._memory(server))
            for server in self._servers
        ]
        for cycle in range(cycles):
            await self._cycle(cycle, seconds, size)
            self._tell(cycle)
        return await self._verdict()

    async def _cycle(self, cycle: int, seconds: float, size: Size) -> None:
        ledger = self._ledger
        crowd = Crowd([server.port for server in self._servers], ledger, self._chance, cycle)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._faults.run(min(4.0, seconds / 6), crowd.over))
            await crowd.live(size, seconds)
        for server in self._servers:
            await self._is_ready(server)
        with suppress(AssertionError):  # then it is told by what follows
            await eventually(lambda: not ledger.losses(time.time()), QUIET_TIMEOUT)
        ledger.close(time.time())
        await crowd.leave()
        for server, worker in zip(self._servers, self._workers, strict=True):
            worker.states.append(await self._state_at_rest(server, worker))
            worker.memories.append(await self._memory(server))

    async def _verdict(self) -> list[str]:
        problems = [*self._ledger.told]
        if untold := self._ledger.faults.total() - len(problems):
            problems.append(f"and {untold} more: {dict(self._ledger.faults)}")
        say()
        for number, (server, worker) in enumerate(zip(self._servers, self._workers, strict=True)):
            worker.trimmed = await self._memory(server, "?trim=true")
            say(f"worker {number}: {worker.where_the_memory_is()}")
            for line in await http(server, "/traced"):
                say(f"    {line}")
            problems += [f"worker {number}: {problem}" for problem in worker.problems()]
            problems += [
                f"worker {number} logged: {line}"
                for line in server.log.splitlines()
                if _COMPLAINT.search(line)
            ]
        if not (self._ledger.counts["heard"] and self._faults.counts):
            problems.append("nothing was heard, or nothing happened to Redis")
        say(f"faults: {dict(self._faults.counts)}")
        say(f"in all: {dict(self._ledger.counts)}")
        return problems

    def _tell(self, cycle: int) -> None:
        if cycle == 0:
            say("MB at rest, of either worker: resident, in use, free in the allocators")
        figures = [
            f"{memory.resident / MEGABYTE:7.1f} {memory.used / MEGABYTE:6.2f} "
            f"{memory.free / MEGABYTE:6.2f}"
            for memory in (worker.memories[-1] for worker in self._workers)
        ]
        counts = self._ledger.counts
        say(
            f"cycle {cycle + 1:2}{' (warm-up)' if cycle == 0 else ' ' * 10} {'  |'.join(figures)}"
            f"  | {counts['clients']} clients, {counts['said']} said, {counts['heard']} heard, "
            f"{counts['missed in a gap']} missed in a gap, {self._ledger.faults.total()} wrong"
        )

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Something went wrong in the soak itself, where nobody waits for it."""
        self._ledger.fault("failed", f"{context['message']}: {context.get('exception')!r}")
        loop.default_exception_handler(context)

    async def _is_ready(self, server: Server) -> None:
        async def ready() -> bool:
            return bool((await http(server, "/health"))["ready"])

        await eventually(ready, 60, what=f"the worker at {server.port} is ready")

    async def _state(self, server: Server) -> State:
        return State(**await http(server, "/state"))

    async def _memory(self, server: Server, how: str = "") -> Memory:
        return Memory(**await http(server, f"/memory{how}"))

    async def _state_at_rest(self, server: Server, worker: Worker) -> State:
        deadline = time.monotonic() + QUIET_TIMEOUT
        while True:
            state = await self._state(server)
            if worker.is_restored(state) or time.monotonic() > deadline:
                return state
            await asyncio.sleep(0.2)


async def main(seconds: float, cycles: int, size: Size, seed: int, *, trace: bool) -> list[str]:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 1)  # and clean up
    with tempfile.TemporaryDirectory(prefix="rooms-soak-") as directory:
        async with RedisServer() as redis, RedisProxy(redis) as wire:
            with starter(Path(directory), shows_logs=False) as start:
                env = {"PYTHONTRACEMALLOC": "5"} if trace else {}
                command = uvicorn("--log-level", "warning", app=APP)
                servers = [start(command, ROOMS_URL=url, **env) for url in (redis.url, wire.url)]
                for server in servers:
                    await asyncio.to_thread(server.wait_for_workers)
                soak = Soak(servers, redis, wire, seed)
                return await soak.run(cycles, seconds / cycles, size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="how long clients come and go")
    parser.add_argument("--cycles", type=int, help="how often all leave meanwhile; 10 in 600 s")
    parser.add_argument("--scale", type=float, default=1, help="more clients, or fewer")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--trace", action="store_true", help="tell what allocates; slow")
    return parser.parse_args()


if __name__ == "__main__":
    if not is_supported():
        sys.exit("The soak needs Linux with glibc 2.33 or newer, to tell where memory is.")
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of writes to who has vanished
    given = _arguments()
    cycles = given.cycles or min(max(int(given.seconds // 20), 3), 10)
    size = Size(*(max(round(count * given.scale), 1) for count in Size()))
    say(f"{given.seconds:g} s in {cycles} cycles, --seed {given.seed}")
    problems = asyncio.run(main(given.seconds, cycles, size, given.seed, trace=given.trace))
    say("\n".join(["", *problems]) if problems else "nothing lost, doubled or left behind")
    sys.exit(bool(problems))
