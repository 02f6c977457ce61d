"""Run the benchmarks, or a part of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from benchmarks import cluster, deliveries, edges, history, jitter, memory, mute, presence, storm
from benchmarks.bar import verdicts
from benchmarks.catalogue import SERVERS_BY_NAME
from benchmarks.effort import QUICK, THOROUGH, Effort
from benchmarks.figures import Results
from benchmarks.report import add, redraw, write
from benchmarks.scenarios import SCENARIOS, Entry, Kind, Scenario
from benchmarks.tables import as_text

Measure = Callable[[Scenario, Sequence[Entry], Effort], Results]

MEASURES: dict[Kind, Measure] = {
    "deliveries": deliveries.measure,
    "storm": storm.measure,
    "memory": memory.measure,
    "mute": mute.measure,
    "cluster": cluster.measure,
    "jitter": jitter.measure,
    "history": history.measure,
    "presence": presence.measure,
    "edges": edges.measure,
}


def main() -> None:
    arguments = _arguments()
    if arguments.redraw:
        redraw()
        return
    wanted = _names(arguments.only, [*SCENARIOS, *SERVERS_BY_NAME])
    scenarios = _names(arguments.scenario, SCENARIOS) or [n for n in wanted if n in SCENARIOS]
    servers = _names(arguments.servers, SERVERS_BY_NAME) or [
        n for n in wanted if n in SERVERS_BY_NAME
    ]
    effort = QUICK if arguments.quick else THOROUGH
    if arguments.rounds:
        effort = effort.with_rounds(arguments.rounds, arguments.lives)
    if arguments.no_speed:
        effort = replace(effort, speed=False)
    results: dict[str, Results] = {}
    for name in scenarios or effort.scenarios or SCENARIOS:
        started = time.monotonic()
        scenario = SCENARIOS[name]
        entries = _entries(scenario, servers) if servers else scenario.chosen(effort.servers)
        results[name] = _run(scenario, entries, effort)
        print(as_text(SCENARIOS[name], results[name]))
        print(f"({time.monotonic() - started:.0f} s)\n", flush=True)
    for verdict in verdicts(results):
        print(verdict)
    if arguments.add:
        add(results)
    elif not (scenarios or servers or arguments.quick or arguments.no_speed):
        write(results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--scenario", default="", help="names, with commas")
    parser.add_argument("--servers", default="", help="names, with commas")
    parser.add_argument("--only", default="", help="names of either, with commas")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--rounds", type=int, help="so many rounds of what is measured in rounds")
    parser.add_argument("--lives", type=int, default=1, help="with so many starts of each server")
    parser.add_argument("--no-speed", action="store_true", help="cost only")
    parser.add_argument(
        "--add", action="store_true", help="write down scenarios that the last results do not have"
    )
    parser.add_argument("--redraw", action="store_true", help="the docs, from the last results")
    return parser.parse_args()


def _names(given: str, known: Collection[str]) -> list[str]:
    names = [name for name in given.split(",") if name]
    for name in names:
        if name not in known:
            sys.exit(f"There is no {name!r}. There are: {', '.join(known)}.")
    return names


def _run(scenario: Scenario, names: Collection[str], effort: Effort) -> Results:
    entries = [scenario.entry(name) for name in dict.fromkeys((*scenario.references, *names))]
    return MEASURES[scenario.kind](scenario, entries, effort)


def _entries(scenario: Scenario, servers: Sequence[str]) -> list[str]:
    """The entries of a scenario that are of some servers, and those servers that have none."""
    entries = scenario.chosen(servers)
    known = {scenario.entry(name).server.name for name in entries}
    return entries + [name for name in servers if name not in known and scenario.suits(name)]


if __name__ == "__main__":
    main()
