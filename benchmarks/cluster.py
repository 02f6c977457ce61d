"""Asking all workers: how many sockets there are, and which."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.processes import cpu_us
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain

QUESTIONS = {"count": 50, "fetch": 5}
"""What is asked, and how often in one measurement."""


def measure(_: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`WHAT cost` is CPU ms of all workers together for one call, `WHAT ms` how long it takes.

    A server has a route for each question, which asks it so many times, one after the other, and
    answers with the number of sockets. Socket.IO has no count of its own: it fetches to count.
    """
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.lives):
        with ExitStack() as stack:
            stages = raise_curtain(entries, stack, fill=True)
            for turn in range(effort.rounds + 1):  # the first warms up
                for name, stage in stages.items():
                    for what, times in QUESTIONS.items():
                        _ask(stage, what, times, figures[name] if turn else Figures())
    return figures


def _ask(stage: Stage, what: str, times: int, figures: Figures) -> None:
    before, started = _cpu_us(stage), time.monotonic()
    url = f"http://127.0.0.1:{stage.workers[0].port}/ask/{what}/{times}"
    with urllib.request.urlopen(url, timeout=60) as response:
        found = json.load(response)
    figures.add(f"{what} cost", (_cpu_us(stage) - before) / 1000 / times)
    figures.add(f"{what} ms", (time.monotonic() - started) * 1000 / times)
    figures.faults += found != stage.scenario.members


def _cpu_us(stage: Stage) -> float:
    return sum(cpu_us(worker.pid) for worker in stage.workers)
