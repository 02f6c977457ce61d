"""The chat behind two edges, with a backend that is replaced every ten seconds while you type.

    python -m example_app.edges
    ROOMS_URL=redis://localhost:6379 python -m example_app.edges --ports 8000,8001 --every 10

Without ROOMS_URL it starts a Redis of its own. Ctrl+C ends everything.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress

EDGE = ["-m", "uvicorn", "example_app.edge:app", "--log-level", "warning", "--port"]
REDIS = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning", "--port"]
BACKEND = ["-m", "fastapi_rooms.cli", "backend", "example_app.main:app", "--name", "chat"]


class Demo:
    """The processes of it."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        self._running: list[Process] = []
        self._telling: set[asyncio.Task[None]] = set()

    async def _start(
        self, *command: str, stdout: int | None = None, stderr: int | None = None
    ) -> Process:
        # In a group of its own: Ctrl+C is for us, who end them in order.
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._running.append(process)
        return process

    async def _answers(self, process: Process, port: int) -> None:
        while process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
        sys.exit(f"What is to listen at port {port} did not start.")

    async def redis(self) -> None:
        """Start a Redis at any free port."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        try:
            process = await self._start(*REDIS, str(port), stdout=DEVNULL)
        except FileNotFoundError:
            sys.exit(
                "There is no redis-server (Debian: redis-server): install it, or set ROOMS_URL."
            )
        await self._answers(process, port)
        self._environment["ROOMS_URL"] = f"redis://127.0.0.1:{port}"

    async def edge(self, port: int) -> None:
        """Start an edge, and return when it answers."""
        with socket.socket() as ours, suppress(ConnectionRefusedError):
            ours.connect(("127.0.0.1", port))
            sys.exit(f"Something listens at port {port}: choose others, as in --ports 8010,8011")
        process = await self._start(sys.executable, *EDGE, str(port))
        await self._answers(process, port)
        say(f"edge {process.pid} is at http://127.0.0.1:{port}")

    async def backend(self) -> Process:
        """Start a backend, and return when it runs."""
        process = await self._start(sys.executable, *BACKEND, stderr=PIPE)
        assert process.stderr is not None
        async for line in process.stderr:
            if b" runs" in line:
                self._telling.add(asyncio.create_task(passed_on(process.stderr)))
                return process
            sys.stderr.buffer.write(line)
        sys.exit("The backend did not start.")

    async def run(self, ports: list[int], every: float) -> None:
        """Serve, and replace the backend, until this is cancelled."""
        if not self._environment.get("ROOMS_URL"):
            await self.redis()
        for port in ports:
            await self.edge(port)
        backend = await self.backend()
        say(f"backend {backend.pid} runs the endpoints. Open both, and talk; Ctrl+C ends it.")
        while True:
            await asyncio.sleep(every)
            following = await self.backend()
            backend.terminate()
            await backend.wait()
            say(f"backend {backend.pid} has ended, {following.pid} goes on: nobody was dropped.")
            self._running.remove(backend)
            backend = following

    async def end(self) -> None:
        """End all, those first who were started last: what the others need is there meanwhile."""
        for process in reversed(self._running):
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def passed_on(errors: asyncio.StreamReader) -> None:
    async for line in errors:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()


def say(line: str) -> None:
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m example_app.edges", description=__doc__)
    parser.add_argument("--ports", default="8000,8001", help="where the edges listen")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between restarts")
    options = parser.parse_args()
    demo = Demo()
    ports = [int(port) for port in options.ports.split(",")]
    running = asyncio.ensure_future(demo.run(ports, options.every))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        say("It ends.")
    finally:
        await demo.end()


if __name__ == "__main__":
    asyncio.run(main())
