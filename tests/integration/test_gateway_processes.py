"""Edges and backends as the command line starts them: processes that end, stop and are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from fastapi_rooms.testing import RedisServer, eventually

HERE = Path(__file__).parent
Process = asyncio.subprocess.Process


class Processes:
    """What was started, and is ended with the test."""

    def __init__(self, url: str) -> None:
        self.environment = os.environ | {"REDIS_URL": url, "ROOMS_URL": url}
        self.started: list[Process] = []

    async def run(self, *arguments: str) -> Process:
        """Start a command of `fastapi-rooms`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "fastapi_rooms.cli",
            *arguments,
            env=self.environment,
            cwd=HERE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.started.append(process)
        return process

    async def edge(self) -> tuple[Process, int]:
        """Start an edge, and return its port, which answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        process = await self.run("edge", "--route", "/chat=chat", "--port", str(port))

        async def answers() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return False
            writer.close()
            return True

        await eventually(answers, timeout=20)
        return process, port

    async def backend(self) -> Process:
        """Start a backend."""
        return await self.run("backend", "gateway_process_app:app", "--name", "chat")


@pytest.fixture
async def processes(redis: RedisServer) -> AsyncIterator[Processes]:
    """Processes that end with the test."""
    made = Processes(redis.url)
    yield made
    for process in made.started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def hello(client: ClientConnection) -> list[int]:
    """Which process greets the client, and at which attempt."""
    return [int(word) for word in str(await client.recv()).split()]


async def test_clients_outlive_every_way_in_which_a_backend_ends(processes: Processes) -> None:
    backends = {process.pid: process for process in [await processes.backend()]}
    (one, one_port), (two, two_port) = await asyncio.gather(processes.edge(), processes.edge())
    ann = await connect(f"ws://127.0.0.1:{one_port}/chat/tea", open_timeout=20)
    bob = await connect(f"ws://127.0.0.1:{two_port}/chat/tea", open_timeout=20)
    pids = set()
    for client in (ann, bob):
        pid, attempt = await hello(client)
        pids.add(pid)
    for number, way in enumerate([signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], 1):
        another = await processes.backend()
        backends[another.pid] = another
        (pid,) = pids
        backends[pid].send_signal(way)
        pids = set()
        for client in (ann, bob):
            pid_now, attempt = await hello(client)
            assert (pid_now, attempt) == (another.pid, number)
            pids.add(pid_now)
        await ann.send(f"hello {number}")
        assert await ann.recv() == await bob.recv() == f"hello {number}"
        if way is signal.SIGTERM:
            assert await backends[pid].wait() == 0
        if way is signal.SIGSTOP:  # it goes on, and does not disturb those who replaced it
            backends[pid].send_signal(signal.SIGCONT)
            await bob.send("undisturbed")
            assert await ann.recv() == await bob.recv() == "undisturbed"
    one.terminate()
    await ann.wait_closed()
    assert ann.close_code == 1012
    assert await one.wait() == 0
    await bob.close()
    two.terminate()
    assert await two.wait() == 0
