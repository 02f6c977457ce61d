"""Connection storms: a thousand clients come, join their rooms, and go again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.processes import cpu_us
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain

AFTERMATH = 1.5
"""Seconds in which a server may still clean up; ours keeps a room's channel for one."""


def measure(scenario: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`cost` is CPU µs for a connection's whole life, `cost/joined` until it is in its room."""
    figures = {entry.name: Figures() for entry in entries}
    with ExitStack() as stack:
        stages = raise_curtain(entries, stack, fill=False)
        for stage in stages.values():  # warms it up
            stage.fill()
            stage.load.close()
        for _ in range(effort.storms):
            before = {name: _cpu_us(stage) for name, stage in stages.items()}
            for name, stage in stages.items():
                _storm(stage, figures[name])
            time.sleep(AFTERMATH)
            for name, stage in stages.items():
                used = _cpu_us(stage) - before[name]
                figures[name].add("cost", used / stage.scenario.members)
            for reference in scenario.references:
                for name in stages:
                    beside = figures[reference].values["cost"][-1]
                    figures[name].add(
                        f"cost/{reference}", figures[name].values["cost"][-1] / beside
                    )
    return figures


def _storm(stage: Stage, figures: Figures) -> None:
    members = stage.scenario.members
    sample = stage.load.open(stage.workers[0].port, members, stage.entry.server.in_flight)
    figures.add("cost joined", sample.cpu_ns / 1000 / members)
    figures.add("speed", members * 1e9 / sample.wall_ns)
    figures.note_faults(sample)
    figures.note_faults(stage.load.close())


def _cpu_us(stage: Stage) -> float:
    return sum(cpu_us(worker.pid) for worker in stage.workers)
