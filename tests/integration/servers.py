"""Real servers on free ports: started, waited for, stopped by signals, and never left running."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from uvicorn.config import WS_PROTOCOLS

ROOT = Path(__file__).parents[2]
WEBSOCKETS = [name for name in WS_PROTOCOLS if name not in ("auto", "none")]
"""The implementations that this uvicorn has."""

DIRECT_WEBSOCKETS = ["websockets-sansio", "wsproto"]
"""Those of them whose connections are written to directly."""

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0

APP = "tests.integration.apps:app"
WITHOUT_ROOMS = "tests.integration.without_rooms:app"

_DEPRECATION_ELSEWHERE = re.compile(r"/site-packages/.*DeprecationWarning")

_COMPLAINT = re.compile(
    r"Traceback|WARNING|ERROR|CRITICAL|Warning:|Exception"
    r"|never awaited|was destroyed|never retrieved"
)


class Server:
    """A server's process and the workers below it, which all write into one log file."""

    def __init__(self, command: list[str], port: int, log_file: Path, env: Mapping[str, str]):
        self.port = port
        self.log_file = log_file
        with log_file.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
                start_new_session=True,  # so that its workers can be ended with it
            )

    @property
    def log(self) -> str:
        """All that it has written so far."""
        return self.log_file.read_text(errors="replace")

    @property
    def complaints(self) -> list[str]:
        """The lines of the log that no healthy server writes."""
        lines = [line for line in self.log.splitlines() if _COMPLAINT.search(line)]
        return [line for line in lines if not _DEPRECATION_ELSEWHERE.search(line)]

    def url(self, path: str, scheme: str = "ws") -> str:
        """Where to reach it."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def wait_for_workers(
        self, count: int = 1, *, other_than: frozenset[int] = frozenset()
    ) -> list[int]:
        """Wait until so many workers have said that they are ready; return their process ids."""
        seen: set[int] = set()

        def all_answer() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"The server ended with {self.process.returncode}:\n{self.log}"
                )
            with suppress(OSError):
                with urllib.request.urlopen(self.url("/health", "http"), timeout=5) as response:
                    health = json.load(response)
                if health["ready"] and health["worker"] not in other_than:
                    seen.add(health["worker"])
            return len(seen) == count

        try:
            wait_until(all_answer, START_TIMEOUT)
        except TimeoutError:
            raise AssertionError(
                f"{len(seen)} of {count} workers answered in {START_TIMEOUT} s:\n{self.log}"
            ) from None
        return sorted(seen)

    def send(self, sig: signal.Signals) -> None:
        """Send a signal to the server, not to its workers."""
        self.process.send_signal(sig)

    def wait(self) -> int:
        """Wait for its end; return the exit code, which is negative for a signal."""
        try:
            return self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"The server did not end in {STOP_TIMEOUT} s:\n{self.log}"
            ) from None

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.send(sig)
        return self.wait()

    def destroy(self) -> None:
        """End it with all of its workers, whatever state they are in."""
        with suppress(subprocess.TimeoutExpired):  # a polite end is quick, or not to be had
            self.process.wait(2)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


Start = Callable[..., Server]


@contextmanager
def starter(directory: Path, *, shows_logs: bool = True) -> Iterator[Start]:
    """Give a function that starts servers, and end all of them at the end of the block.

    It takes a command as `uvicorn(…)` makes it, a function of the port, and more environment
    variables. It does not wait for the server. What they have logged is written to stdout in the
    end, if it `shows_logs`.
    """
    started: list[Server] = []

    def start(command: Callable[[int], list[str]], port: int | None = None, **env: str) -> Server:
        port = port or free_port()
        log_file = directory / f"server-{port}-{len(started)}.log"
        server = Server(command(port), port, log_file, _environment() | env)
        started.append(server)
        return server

    try:
        yield start
    finally:
        for server in started:
            server.send(signal.SIGTERM)  # does nothing if it has ended
        for server in started:
            server.destroy()
            if shows_logs:  # if the test fails
                sys.stdout.write(f"--- {server.log_file.name}\n{server.log}")


def uvicorn(*options: str, app: str = APP) -> Callable[[int], list[str]]:
    """A `uvicorn` command."""
    quiet = "--no-access-log"
    return lambda port: [*_python("uvicorn"), app, "--port", str(port), quiet, *options]


def gunicorn(*options: str, app: str = APP) -> Callable[[int], list[str]]:
    """A `gunicorn` command with uvicorn's worker."""
    worker = ["-k", "uvicorn_worker.UvicornWorker"]
    if tuple(map(int, version("gunicorn").split(".")[:2])) >= (25, 1):
        worker.append("--no-control-socket")  # all of a user's gunicorns would want the same one
    return lambda port: [*_python("gunicorn"), app, "-b", f"127.0.0.1:{port}", *worker, *options]


def hypercorn(*options: str, app: str = APP) -> Callable[[int], list[str]]:
    """A `hypercorn` command."""
    return lambda port: [*_python("hypercorn"), app, "-b", f"127.0.0.1:{port}", *options]


def granian(*options: str, app: str = APP) -> Callable[[int], list[str]]:
    """A `granian` command."""
    asgi = ("--interface", "asgi")
    return lambda port: [*_python("granian"), app, "--port", str(port), *asgi, *options]


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _environment() -> dict[str, str]:
    """Ours, without what the servers would read in it; every Python warning is logged, once.

    They are not measured, which would take them half as long again: what is run in a server is run
    in the process of the tests, too.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "ROOMS_URL"}
        and not name.startswith(("UVICORN_", "GRANIAN_", "PYTEST_", "COVERAGE_"))
    }
    return inherited | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "default",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def free_port() -> int:
    """A port that nobody listens on, and that nobody else is about to.

    Each test process goes through a range of its own, apart from where `RedisServer` looks for
    ports, and where the kernel takes those of clients from. A port that is drawn by lot would be
    somebody else's by the time its server is up, once in a while.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _ports_of_this_process() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 10_000 + number % 8 * 1_000
    start = random.SystemRandom().randrange(1_000)
    return (first + (start + offset) % 1_000 for offset in itertools.count())


_ports = _ports_of_this_process()


def wait_until(condition: Callable[[], bool], timeout: float = 15.0) -> None:
    """Return once `condition()` holds. Raises `TimeoutError` when it does not in time."""
    deadline = time.monotonic() + timeout
    pause = 0.005
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
