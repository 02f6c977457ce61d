"""Edges and backends as the command line starts them, in processes that end with the test."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from fastapi_rooms.testing import eventually

HERE = Path(__file__).parent
STARTED = 30.0
"""Seconds that a process has to start, on a machine that does much else."""

Process = asyncio.subprocess.Process


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def answers(port: int) -> bool:
    """Whether something listens at a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


class Processes:
    """What was started, on one carrier."""

    def __init__(self, url: str) -> None:
        self.environment = os.environ | {"REDIS_URL": url, "ROOMS_URL": url}
        self.started: list[Process] = []

    async def run(self, *arguments: str, quiet: bool = True) -> Process:
        """Start a command of `fastapi-rooms`; its standard error is read, or nobody's."""
        errors = asyncio.subprocess.DEVNULL if quiet else asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "fastapi_rooms.cli", *arguments),
            env=self.environment,
            cwd=HERE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            # A shell has what it runs in the background ignore it, and Python leaves that so.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        self.started.append(process)
        return process

    async def edge(self, *options: str) -> tuple[Process, int]:
        """Start an edge, and return its port, which answers."""
        port = free_port()
        arguments = ("edge", "--route", "/chat=chat", "--port", str(port), *options)
        process = await self.run(*arguments)
        await eventually(lambda: answers(port), timeout=STARTED)
        return process, port

    async def backend(self, *options: str) -> Process:
        """Start a backend, and return when it runs."""
        arguments = ("backend", "process_app:app", "--name", "chat", *options)
        process = await self.run(*arguments, quiet=False)
        assert process.stderr is not None
        async with asyncio.timeout(STARTED):
            line = await process.stderr.readline()
            while line and b" runs, " not in line:
                line = await process.stderr.readline()
        assert line, "the backend has ended"
        return process

    async def end(self) -> None:
        """Kill what runs still."""
        for process in self.started:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
        for process in self.started:
            await process.communicate()


@asynccontextmanager
async def processes_on(url: str) -> AsyncIterator[Processes]:
    """Processes that end with the block."""
    made = Processes(url)
    try:
        yield made
    finally:
        await made.end()
