"""The load generator, driven from here: one for each server."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.native import program
from benchmarks.processes import CORES, STOP_TIMEOUT, end_with_the_runner

ANSWER_TIMEOUT = 120.0

HEADER_BYTES = 16
"""Of each message, that say whose it is, and which."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one command came to."""

    wall_ns: int
    cpu_ns: int
    deliveries: int
    lost: int
    doubled: int
    missing: int
    broken: int
    dropped: int
    bytes: int
    """That came over the wire."""
    p50_ms: float
    p99_ms: float

    @property
    def cost(self) -> float:
        """CPU µs per delivery."""
        return self.cpu_ns / 1000 / self.deliveries if self.deliveries else float("nan")

    @property
    def bytes_each(self) -> float:
        """Bytes on the wire per delivery."""
        return self.bytes / self.deliveries if self.deliveries else float("nan")

    @property
    def speed(self) -> float:
        """Deliveries per second."""
        return self.deliveries * 1e9 / self.wall_ns if self.wall_ns else float("nan")

    @property
    def faults(self) -> int:
        """Messages lost, doubled, out of order or changed, and connections that ended."""
        return self.lost + self.doubled + self.missing + self.broken + self.dropped


class Load:
    """The clients of one server."""

    def __init__(
        self,
        *,
        protocol: str,
        path: str,
        deflate: bool,
        rooms: int,
        room_size: int,
        payload: int,
        texts: Path | None,
        counted: Sequence[int],
        watched: Sequence[int],
    ) -> None:
        shape = [str(int(deflate)), str(rooms), str(room_size), str(payload), str(texts or "-")]
        pids = [",".join(map(str, group)) or "-" for group in (counted, watched)]
        core = ["taskset", "-c", str(CORES.load)]
        self._process = subprocess.Popen(
            [*core, str(program("load")), protocol, path, *shape, *pids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=end_with_the_runner,  # noqa: PLW1509 -- there are no threads
        )

    def open(self, port: int, count: int, in_flight: int) -> Sample:
        """Connect members, a few at a time, and wait until they are in their rooms."""
        return self._do(f"open {port} {count} {in_flight}")

    def open_mute(self, port: int, count: int) -> Sample:
        """Connect members of the first room that never read."""
        return self._do(f"mute {port} {count}")

    def cost(self, batches: int, window: int, *, depth: int, stopped: bool) -> Sample:
        """Send batches of messages; read after every `depth` of them, once the server is done."""
        return self._do(f"cost {batches} {window} {depth} {int(stopped)}")

    def speed(self, seconds: float, window: int) -> Sample:
        """Keep some messages under way."""
        return self._do(f"speed {seconds} {window}")

    def rate(self, per_second: float, seconds: float) -> Sample:
        """Send on a schedule."""
        return self._do(f"rate {per_second} {seconds}")

    def close(self) -> Sample:
        """Let every client say goodbye."""
        return self._do("close")

    def _do(self, command: str) -> Sample:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], ANSWER_TIMEOUT)[0]:
            raise RuntimeError(f"The load generator did not answer {command!r}.")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The load generator ended at {command!r}.")
        return Sample(**json.loads(answer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._process.stdin.close()
        self._process.stdout.close()
