"""Processes: started on a core of their own, waited for, and always ended."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from benchmarks.paths import ROOT

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0
TERMINATE_TIMEOUT = 30.0


class Cores:
    """One core for what is measured, another for what measures it."""

    def __init__(self) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("The benchmarks need two cores: one for a server, one for its load.")
        self.server = cores[0]
        self.load = cores[1]


CORES = Cores()
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def end_with_the_runner() -> None:
    """In a new process: end when the runner does, however it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def cpu_us(pid: int) -> float:
    """CPU time that a process has used, all of its threads together."""
    process_clock = ~pid << 3 | 2  # as clock_getcpuclockid(3) makes it
    return time.clock_gettime_ns(process_clock) / 1000


def free_port() -> int:
    """One that no client is given before the server has it: Linux gives them from 32768 on."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Running:
    """A process that listens on a port, for the time of a `with` block."""

    def __init__(
        self,
        argv: Sequence[str],
        port: int,
        core: int,
        cwd: Path = ROOT,
        env: dict[str, str] | None = None,
    ) -> None:
        self.port = port
        self._core = core
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 -- `stop` closes it
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=end_with_the_runner,  # noqa: PLW1509 -- there are no threads
        )
        self.pid = self._process.pid

    def wait_until_listening(self) -> None:
        """Wait until it listens, and only then put it on its core: it starts sooner on all."""
        deadline = time.monotonic() + START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                for thread in Path(f"/proc/{self.pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), {self._core})
                return
        raise RuntimeError(f"{self._process.args!r} did not start:\n{self.log()}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        """The end of what it has printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 4000))
        return self._log.read().decode(errors="replace")

    def terminate(self) -> None:
        """Have it end as a deploy does, and wait until it has."""
        self._process.terminate()
        self._process.wait(TERMINATE_TIMEOUT)

    def stop(self) -> None:
        if self.alive:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT)
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_redis() -> Running:
    """A Redis of our own, on the load's core: its work is nobody's."""
    port = free_port()
    argv = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    argv += ["--appendonly", "no", "--client-output-buffer-limit", "pubsub 0 0 0"]
    try:
        redis = Running(argv, port, CORES.load, Path(tempfile.gettempdir()))
    except FileNotFoundError:
        raise SystemExit("The benchmarks need Redis (Debian: redis-server).") from None
    redis.wait_until_listening()
    return redis


class _RabbitMQ(Running):
    """A RabbitMQ with its own directory: a script, the Erlang machine that it starts, and epmd."""

    PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="rooms-bench-rabbitmq-")
        home, port, mapper = self._directory.name, free_port(), free_port()
        files = {"enabled_plugins": "[].", "rabbitmq.conf": "log.file.level = error\n"}
        for name, text in files.items():
            (Path(home) / name).write_text(text)
        self._env = {
            **os.environ,
            "HOME": home,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(mapper),
            "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
            "RABBITMQ_LOGS": f"{home}/rabbitmq.log",
            "RABBITMQ_LOG_BASE": home,
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_NODENAME": f"bench{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }
        super().__init__([self.PROGRAM], port, CORES.load, Path(home), self._env)

    def wait_until_listening(self) -> None:
        super().wait_until_listening()
        self.pid = int((Path(self._directory.name) / "pid").read_text())
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {CORES.load})

    def stop(self) -> None:
        with suppress(OSError, ValueError):
            os.kill(int((Path(self._directory.name) / "pid").read_text()), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        super().stop()
        with suppress(FileNotFoundError):
            subprocess.run(["epmd", "-kill"], env=self._env, capture_output=True, check=False)
        self._directory.cleanup()


def start_rabbitmq() -> Running:
    """A RabbitMQ of our own, on the load's core: its work is nobody's."""
    try:
        rabbitmq = _RabbitMQ()
    except FileNotFoundError:
        raise SystemExit("The benchmarks need RabbitMQ (Debian: rabbitmq-server).") from None
    rabbitmq.wait_until_listening()
    return rabbitmq
