"""What it costs Redis to know who is present: CPU time and memory for each socket in a room."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.history import used_by_redis
from benchmarks.memory import SETTLE
from benchmarks.processes import cpu_us
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain

PLAIN = "ours-redis"
"""What knows nobody: what a subscription costs Redis is no presence's."""

REAPED = 40.0
"""Seconds at most until a dead worker's sockets are taken out: a lease, and what follows."""


def measure(
    scenario: Scenario,  # noqa: ARG001 -- each entry has its own
    entries: Sequence[Entry],
    effort: Effort,
) -> Results:
    """`join` is Redis' CPU µs for a socket that comes into a room, `bytes` what it takes there.

    `reap` is the CPU µs for one whose worker was killed.
    """
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.memory_rounds):
        with ExitStack() as stack:
            stages = raise_curtain(entries, stack, fill=False)
            joined = {name: _join(stage, figures[name]) for name, stage in stages.items()}
            _note(joined, figures)
            reaped = {name: _reap(stage) for name, stage in stages.items() if name != PLAIN}
            for name, cost in reaped.items():
                figures[name].add("reap", cost)
    return figures


def _note(joined: Mapping[str, tuple[float, float]], figures: Mapping[str, Figures]) -> None:
    plain = joined.get(PLAIN, (0.0, 0.0))
    for name in joined.keys() - {PLAIN}:
        for what, mine, others in zip(("join", "bytes"), joined[name], plain, strict=True):
            figures[name].add(what, mine - others)


def _join(stage: Stage, figures: Figures) -> tuple[float, float]:
    """Have everyone come in; returns CPU µs and bytes of Redis for each."""
    time.sleep(SETTLE)
    cpu, memory = cpu_us(stage.redis.pid), used_by_redis(stage.redis.port)
    members = stage.scenario.members // len(stage.workers)
    for worker in stage.workers:
        figures.note_faults(stage.load.open(worker.port, members, stage.entry.server.in_flight))
    time.sleep(SETTLE)
    members *= len(stage.workers)
    return (
        (cpu_us(stage.redis.pid) - cpu) / members,
        (used_by_redis(stage.redis.port) - memory) / members,
    )


def _reap(stage: Stage) -> float:
    """Kill a worker; returns the CPU µs of Redis for each of its sockets until they are out."""
    before, keys = cpu_us(stage.redis.pid), _keys(stage.redis.port)
    sockets = stage.scenario.members // len(stage.workers)
    stage.workers[0].stop()
    deadline = time.monotonic() + REAPED
    while _keys(stage.redis.port) > keys - sockets and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(SETTLE)
    return (cpu_us(stage.redis.pid) - before) / sockets


def _keys(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), 5) as redis, redis.makefile("rb") as replies:
        redis.sendall(b"DBSIZE\r\n")
        return int(replies.readline()[1:])
