"""What it costs to have the endpoints behind an edge, and what a deploy does to the clients."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.processes import Running, cpu_us
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain


def measure(
    scenario: Scenario,  # noqa: ARG001 -- each entry has its own
    entries: Sequence[Entry],
    effort: Effort,
) -> Results:
    """`cost` is CPU µs for a message of all processes, `held` of those that hold the clients.

    `publishes` is how many commands of Redis a message costs, and `reconnects` how many clients a
    deploy of the application drops.
    """
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.lives):
        with ExitStack() as stack:
            stages = raise_curtain(entries, stack, fill=True)
            for turn in range(effort.rounds + 1):  # the first warms up
                for name, stage in stages.items():
                    _measure(stage, effort.seconds, figures[name] if turn else Figures())
            for name, stage in stages.items():
                figures[name].add("reconnects", _deploy(stage))
    return figures


def _measure(stage: Stage, seconds: float, figures: Figures) -> None:
    everything = [*stage.workers, *stage.backends]
    used, held = _cpu_us(everything), _cpu_us(stage.workers)
    published = _publishes(stage.redis.port)
    sample = stage.load.speed(seconds, stage.scenario.window)
    messages = max(1, sample.deliveries // stage.scenario.room_size)
    figures.add("cost", (_cpu_us(everything) - used) / messages)
    figures.add("held", (_cpu_us(stage.workers) - held) / messages)
    figures.add("publishes", (_publishes(stage.redis.port) - published) / messages)
    figures.note_faults(sample)
    sample = stage.load.rate(stage.scenario.per_second, seconds * 2)
    figures.add("p50", sample.p50_ms)
    figures.add("p99", sample.p99_ms)
    figures.note_faults(sample)


def _deploy(stage: Stage) -> int:
    """Replace what runs the application; returns how many clients were dropped by that."""
    port = stage.workers[0].port
    before = _connections(port)
    if stage.backends:
        old = stage.backends[-1]
        stage.start_backend().wait_until_listening()
        old.terminate()
    else:
        stage.workers[0].terminate()
    return before - _connections(port)


def _connections(port: int) -> int:
    """How many clients are connected to a port of 127.0.0.1: see proc_net_tcp in the kernel."""
    local, established = f"0100007F:{port:04X}", "01"
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(line[1] == local and line[3] == established for line in fields)


def _cpu_us(processes: Sequence[Running]) -> float:
    return sum(cpu_us(process.pid) for process in processes)


def _publishes(port: int) -> int:
    """How often a Redis was told to publish."""
    with socket.create_connection(("127.0.0.1", port), 5) as redis, redis.makefile("rb") as replies:
        redis.sendall(b"INFO commandstats\r\n")
        text = replies.read(int(replies.readline()[1:]))
    found = re.search(rb"cmdstat_publish:calls=(\d+)", text)
    return int(found[1]) if found is not None else 0
