"""Clients whose networks fail every 15 seconds for two, while workers are replaced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import environments
from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.processes import CORES, Running, free_port, start_redis
from benchmarks.scenarios import Entry, Scenario
from tests.jitter.network import Report, clients

EVERY, AWAY, INTERVAL = 15_000, 2_000, 200
"""Milliseconds from one failure to the next, of a failure, and between a sender's messages."""

STOP_TIMEOUT = 30.0


def measure(scenario: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`p50` and `p99` are ms from sending to hearing; half of the workers have senders only."""
    figures = {entry.name: Figures() for entry in entries}
    for entry in entries:
        report = _run(scenario, entry, effort.jitter_seconds)
        _note(figures[entry.name], report, scenario.members)
    return figures


def _run(scenario: Scenario, entry: Entry, seconds: float) -> Report:
    modules = environments.node() / "node_modules"
    with ExitStack() as stack:
        redis = stack.enter_context(start_redis())
        url = f"redis://127.0.0.1:{redis.port}"

        def start(port: int) -> Running:
            worker = Running(entry.server.argv(port, url), port, CORES.server)
            stack.enter_context(worker)
            worker.wait_until_listening()
            return worker

        workers = [start(free_port()) for _ in range(scenario.workers)]
        replaced, kept = workers[: len(workers) // 2], workers[len(workers) // 2 :]
        load = stack.enter_context(
            clients(
                ["node"],
                {**os.environ, "NODE_PATH": str(modules)},
                ports=[worker.port for worker in replaced],
                senders=[worker.port for worker in kept],
                clients=scenario.members,
                every=EVERY,
                away=AWAY,
                interval=INTERVAL,
            )
        )
        load.wait_until_in()
        for worker in replaced:
            time.sleep(seconds / (len(replaced) + 1))
            load.begin_deploy()
            _stop(worker)
            start(worker.port)
        time.sleep(seconds / (len(replaced) + 1))
        return load.end()


def _stop(worker: Running) -> None:
    """Have a worker drain."""
    os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while worker.alive:
        if time.monotonic() > deadline:
            raise RuntimeError(f"A worker does not stop:\n{worker.log()}")
        time.sleep(0.01)


def _note(figures: Figures, report: Report, members: int) -> None:
    wanted = report.sent * members
    figures.add("delivered", 100 * (wanted - report.missing) / wanted)
    figures.add("p50", report.p50)
    figures.add("p99", report.p99)
    figures.add("longest", report.longest)
    figures.add("cuts", report.cuts)
    for deploy in report.deploys:
        figures.add("back over", deploy.over)
        figures.add("busiest", deploy.busiest / max(1, deploy.clients))
        figures.add("back after", deploy.wait)
    figures.faults += report.faults
