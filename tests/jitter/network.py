"""Clients whose network fails again and again, and what they had in the end: see `clients.mjs`.

The clients are those of `clients/js`, in one Node process. This needs the standard library only, as
the benchmarks use it, too.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("clients.mjs")


@dataclass(frozen=True, slots=True)
class Deploy:
    """How the clients of a worker that was drained came back. Times are milliseconds."""

    clients: int
    over: float
    """From the first that was back to the last."""
    busiest: int
    """How many came back in the fullest tenth of a second."""
    wait: float
    """From the close to the return; the median."""
    longest: float


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the messages. Times are milliseconds from sending to hearing."""

    sent: int
    missing: int
    doubled: int
    disordered: int
    """Clients that heard another order than the first."""
    told: int
    """How often a client was told that something is gone."""
    ended: list[int]
    """Codes of clients that did not come back."""
    cuts: int
    p50: float
    p99: float
    longest: float
    deploys: list[Deploy]

    @property
    def faults(self) -> int:
        """What should not be."""
        return self.missing + self.doubled + self.disordered + self.told + len(self.ended)


class Clients:
    """The clients, while their networks fail."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout

    def wait_until_in(self) -> None:
        """Wait until each has joined the room, and the senders begin."""
        self._read()

    def begin_deploy(self) -> None:
        """Those who are closed with 1012 from now on belong to another deploy than those before."""
        self._write("away")

    def end(self) -> Report:
        """Send no more, and wait until everybody has everything, or will not get it."""
        self._write("end")
        found = self._read()
        return Report(**{**found, "deploys": [Deploy(**deploy) for deploy in found["deploys"]]})

    def _write(self, line: str) -> None:
        self._stdin.write(f"{line}\n")
        self._stdin.flush()

    def _read(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            raise RuntimeError(f"The clients have ended with {self._process.wait()}.")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def clients(
    command: Sequence[str | Path], env: Mapping[str, str], **options: Any
) -> Iterator[Clients]:
    """Start them; `command` is how Node is started, `options` are those of `clients.mjs`."""
    process = subprocess.Popen(
        [*command, PROGRAM, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        yield Clients(process)
    finally:
        process.kill()
        process.communicate()
