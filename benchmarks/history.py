"""What it costs to remember: CPU time of Redis for a message, and memory for each that is kept."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.memory import SETTLE, private_kb
from benchmarks.processes import cpu_us
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain

UNDER_WAY = (1, 16)
"""Messages at a time, each to another room."""

KEPT = 101
"""Messages that are kept of a room: as many as `RoomManager.history` keeps where it is not told,
and one to go on from."""

PLAIN = "ours-redis"
"""What keeps nothing. What its worker grows by under the same messages is no message's."""

FILLING = 32
"""Messages at a time while the rooms are filled."""


def measure(scenario: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`redis cost, N` is Redis' CPU µs for a message with N under way, `bytes in WHERE` one kept.

    Memory is looked at before and after the rooms are filled, and CPU time only then.
    """
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.lives):
        with ExitStack() as stack:
            stages = raise_curtain(entries, stack, fill=True)
            grown = {name: _fill(stage, figures[name]) for name, stage in stages.items()}
            _note_memory(scenario, grown, figures)
            for _ in range(effort.rounds):
                for under_way in UNDER_WAY:
                    for name, stage in stages.items():
                        _measure_cost(stage, under_way, effort.seconds, figures[name])
    return figures


def _fill(stage: Stage, figures: Figures) -> tuple[int, int]:
    """Send until every room keeps no more; return by how many bytes Redis and the worker grew."""
    before = _used(stage)
    missing = stage.scenario.rooms * KEPT
    while missing > 0:
        missing -= _messages(stage, FILLING, 0.2, figures)
    time.sleep(SETTLE)
    after = _used(stage)
    return after[0] - before[0], after[1] - before[1]


def _used(stage: Stage) -> tuple[int, int]:
    return used_by_redis(stage.redis.port), private_kb(stage.workers[0].pid) * 1024


def used_by_redis(port: int) -> int:
    """Bytes that a Redis has in use."""
    with socket.create_connection(("127.0.0.1", port), 5) as redis, redis.makefile("rb") as replies:
        redis.sendall(b"INFO memory\r\n")
        text = replies.read(int(replies.readline()[1:]))
    found = re.search(rb"used_memory:(\d+)", text)
    assert found is not None
    return int(found[1])


def _note_memory(
    scenario: Scenario, grown: Mapping[str, tuple[int, int]], figures: Mapping[str, Figures]
) -> None:
    plain = grown.get(PLAIN, (0, 0))
    for name in grown.keys() - {PLAIN}:
        for where, mine, others in zip(("redis", "worker"), grown[name], plain, strict=True):
            figures[name].add(f"bytes in {where}", (mine - others) / scenario.rooms / KEPT)


def _measure_cost(stage: Stage, under_way: int, seconds: float, figures: Figures) -> None:
    before = cpu_us(stage.redis.pid)
    messages = _messages(stage, under_way, seconds, figures)
    figures.add(f"redis cost, {under_way}", (cpu_us(stage.redis.pid) - before) / messages)


def _messages(stage: Stage, under_way: int, seconds: float, figures: Figures) -> int:
    """Send for some seconds; return how many messages that were."""
    sample = stage.load.speed(seconds, under_way)
    figures.note_faults(sample)
    return max(1, sample.deliveries // stage.scenario.room_size)
