"""Backends are restarted again and again, while the clients of two edges talk.

`python -m tests.soak.rolling --seconds 60`. Its exit status is 1 if a connection was dropped, or a
room message was lost, doubled, or out of order. With `--kill` the backends are killed: then what
clients said may be lost, to all who are in the room alike; what was sent past the backends may not.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from fastapi_rooms import AsyncEmitter
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.processes import Process, Processes, processes_on

ROOMS = 4
RATE = 10.0
"""Messages a second, of each speaker."""
QUIET_TIMEOUT = 20.0
"""Seconds that what was said last has to arrive."""


class Member:
    """A client in a room, and what it has heard."""

    def __init__(self, client: ClientConnection, room: str) -> None:
        self.client = client
        self.room = room
        self.heard: dict[str, list[int]] = {}
        self.attempts: list[int] = []
        self.backend = 0
        """The process that runs its endpoint."""
        self.closed: str | None = None
        """How its connection ended, if it has."""

    async def hear(self) -> None:
        """Hear until the connection is closed."""
        try:
            while True:
                self._take(str(await self.client.recv()))
        except ConnectionClosed as error:
            self.closed = str(error)

    def _take(self, text: str) -> None:
        if text.startswith("m "):
            _, speaker, number = text.split()
            self.heard.setdefault(speaker, []).append(int(number))
        else:
            self.backend, attempt = map(int, text.split())
            self.attempts.append(attempt)


class Rolling:
    """The members, who speaks to them, and how often the backends were restarted."""

    def __init__(self, processes: Processes, emitter: AsyncEmitter) -> None:
        self._processes = processes
        self._emitter = emitter
        self._stack = AsyncExitStack()
        self.members: list[Member] = []
        self.said: dict[str, dict[str, int]] = {}
        """How many messages each speaker has sent, by room."""
        self.restarts = 0
        self._hearing: list[asyncio.Task[None]] = []

    async def connect(self, ports: list[int], clients: int) -> None:
        """Have clients come, to every edge and room."""
        for number in range(clients):
            room = f"room-{number % ROOMS}"
            url = f"ws://127.0.0.1:{ports[number // ROOMS % len(ports)]}/chat/{room}"
            client = await connect(url, open_timeout=30, ping_interval=None, compression=None)
            member = Member(client, room)
            self.members.append(member)
            self._hearing.append(asyncio.create_task(member.hear()))
        await eventually(lambda: all(member.attempts for member in self.members), timeout=30)

    async def speak(self, room: str, over: asyncio.Event) -> None:
        """Have a client of a room say something all the while, through its endpoint."""
        member = next(member for member in self.members if member.room == room)
        await self._say(f"client-of-{room}", room, member.client.send, over)

    async def emit(self, room: str, over: asyncio.Event) -> None:
        """Say something in a room all the while, past edges and backends."""
        await self._say(f"emitter-of-{room}", room, self._emitter.to(room).send_text, over)

    async def _say(self, speaker: str, room: str, send: Any, over: asyncio.Event) -> None:
        said = self.said.setdefault(room, {})
        number = 0
        while not over.is_set():
            with suppress(ConnectionClosed):  # then it is told as a fault
                await send(f"m {speaker} {number}")
                number += 1
                said[speaker] = number
            with suppress(TimeoutError):
                async with asyncio.timeout(1 / RATE):
                    await over.wait()

    async def restart(self, backends: list[Process], *, kill: bool) -> list[Process]:
        """Restart one backend after the other; returns the new ones."""
        started = []
        for backend in backends:
            backend.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            status = await backend.wait()
            assert kill or status == 0, f"a backend ended with {status}"
            started.append(await self._processes.backend())
            self.restarts += 1
            await eventually(partial(self._are_served_elsewhere, backend.pid), timeout=30)
        return started

    def _are_served_elsewhere(self, pid: int) -> bool:
        return not any(member.backend == pid and not member.closed for member in self.members)

    def _has_all(self, member: Member) -> bool:
        said = self.said[member.room]
        return all(len(member.heard.get(who, ())) >= count for who, count in said.items())

    def _expected(self, speaker: str, count: int, room: str, *, kill: bool) -> list[int]:
        """What members are to have heard of a speaker."""
        if not (kill and speaker.startswith("client")):
            return list(range(count))
        first = next(member for member in self.members if member.room == room)
        return sorted(set(first.heard.get(speaker, ())))

    async def problems(self, *, kill: bool) -> list[str]:
        """What is wrong, once all has arrived that will."""
        with suppress(AssertionError):  # then it is told by what follows
            await eventually(lambda: all(map(self._has_all, self.members)), timeout=QUIET_TIMEOUT)
        found = []
        for number, member in enumerate(self.members):
            if member.closed is not None:
                found.append(f"client {number} was dropped: {member.closed}")
            for speaker, count in self.said[member.room].items():
                heard = member.heard.get(speaker, [])
                expected = self._expected(speaker, count, member.room, kill=kill)
                if heard == expected:
                    continue
                lost, doubled = set(expected) - set(heard), len(heard) - len(set(heard))
                found.append(
                    f"client {number} of {member.room} heard {len(heard)} of {count} messages of "
                    f"{speaker}: lost {sorted(lost)[:5]}, {doubled} twice"
                )
            if member.attempts != sorted(set(member.attempts)):
                found.append(f"client {number} had its endpoints out of order: {member.attempts}")
        return found

    async def close(self) -> None:
        """Have everybody leave."""
        await asyncio.gather(*(member.client.close() for member in self.members))
        await asyncio.gather(*self._hearing)


async def roll(
    url: str, *, seconds: float, every: float, clients: int, kill: bool = False
) -> tuple[Rolling, list[str]]:
    """Do it, and return what was done, and what was wrong."""
    async with processes_on(url) as processes, AsyncEmitter(url) as emitter:
        backends = [await processes.backend(), await processes.backend()]
        edges = [await processes.edge(), await processes.edge()]
        rolling = Rolling(processes, emitter)
        await rolling.connect([port for _, port in edges], clients)
        over, end = asyncio.Event(), time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(ROOMS):
                group.create_task(rolling.speak(f"room-{number}", over))
                group.create_task(rolling.emit(f"room-{number}", over))
            while (began := time.monotonic()) < end:
                backends = await rolling.restart(backends, kill=kill)
                await asyncio.sleep(max(0.0, min(began + every, end) - time.monotonic()))
            over.set()
        problems = await rolling.problems(kill=kill)
        await rolling.close()
        for process in [*backends, *(edge for edge, _ in edges)]:
            process.terminate()
            if (status := await process.wait()) != 0:
                problems.append(f"a process ended with {status}")
        return rolling, problems


def main() -> int:
    """Run it, and tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between restarts")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--kill", action="store_true", help="kill backends, not asking them to end")
    options = parser.parse_args()
    with RedisServer() as redis:
        rolling, problems = asyncio.run(roll(redis.url, **vars(options)))
    heard = sum(len(numbers) for m in rolling.members for numbers in m.heard.values())
    said = sum(sum(counts.values()) for counts in rolling.said.values())
    attempts = sum(len(m.attempts) for m in rolling.members)
    sys.stdout.write(
        f"{rolling.restarts} restarts of a backend, {len(rolling.members)} clients, "
        f"{attempts} endpoints, {said} messages said, {heard} heard\n"
    )
    for problem in problems[:20]:
        sys.stdout.write(problem + "\n")
    if not problems:
        lost = "what was lost was lost to all alike" if options.kill else "no message lost"
        sys.stdout.write(f"no connection dropped, {lost}, none doubled\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
