"""What an idle connection keeps: memory of the server's process before and after many of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import raise_curtain

WARM_UP = 500
"""Connections before the first look, so that what is only made once is there."""
SETTLE = 1.0


def measure(scenario: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`kb` is KB per connection; `kb above bare` that above an endpoint that has no rooms."""
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.memory_rounds):
        for entry in entries:
            with ExitStack() as stack:
                for stage in raise_curtain([entry], stack, fill=False).values():
                    worker, in_flight = stage.workers[0], entry.server.in_flight
                    stage.load.open(worker.port, WARM_UP, in_flight)
                    time.sleep(SETTLE)
                    before = private_kb(worker.pid)
                    more = scenario.members - WARM_UP
                    figures[entry.name].note_faults(stage.load.open(worker.port, more, in_flight))
                    time.sleep(SETTLE)
                    figures[entry.name].add("kb", (private_kb(worker.pid) - before) / more)
        for entry in entries:
            bare = "bare-asyncio" if entry.name.endswith("-asyncio") else "bare"
            if entry.server.environment == "ours" and bare in figures and figures[bare].values:
                above = figures[entry.name].values["kb"][-1] - figures[bare].values["kb"][-1]
                figures[entry.name].add("kb above bare", above)
    return figures


def private_kb(pid: int) -> int:
    """Memory that is this process's alone, without the kernel's."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines[1:])
    return sum(int(sizes[name].split()[0]) for name in ("Private_Clean", "Private_Dirty"))
