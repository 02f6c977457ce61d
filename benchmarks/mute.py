"""Members who do not read, among others who do: what the others notice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.memory import private_kb
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import raise_curtain

MUTE = (0, 1, 20)
ATTEMPTS = 4
"""Measurements that the kernel stood still in are repeated, the last of so many excepted."""


def measure(_: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """`p99 with N mute` in ms; `lost` is a percentage of what the others should have got; `grown`
    is MB by which the server grew. `p99 N/0` is a ratio of medians: the slowest three of the few
    hundred messages of one measurement make its p99, and often it is the machine that was slow.

    In the time of a measurement the mute ones are sent more than the kernel and an outbox hold.
    """
    figures = {entry.name: Figures() for entry in entries}
    for turn in range(effort.mute_rounds):
        for entry in entries:
            if turn == 0 or entry.server.group == "ours":
                for count in MUTE if turn == 0 else (MUTE[0], MUTE[-1]):
                    _measure(entry, count, figures[entry.name], effort.mute_seconds)
    for figure in figures.values():
        for count in MUTE[1:]:
            beside, alone = (figure.median(f"p99 with {n} mute") for n in (count, 0))
            figure.add(f"p99 {count}/0", beside / alone)
    return figures


def _measure(entry: Entry, count: int, figures: Figures, seconds: float) -> None:
    for left in reversed(range(ATTEMPTS)):
        with ExitStack() as stack:
            for stage in raise_curtain([entry], stack, fill=True).values():
                worker = stage.workers[0]
                if count:
                    figures.note_faults(stage.load.open_mute(worker.port, count))
                stage.load.speed(0.2, 1)
                before, waits = private_kb(worker.pid), delayed_acks()
                sample = stage.load.rate(stage.scenario.per_second, seconds)
                if left and delayed_acks() - waits > stage.scenario.members / 2:
                    continue  # the kernel stood still, not the server
                figures.add(f"p99 with {count} mute", sample.p99_ms)
                lost = sample.lost * 100 / (sample.lost + sample.deliveries)
                figures.add(f"lost with {count} mute", lost)
                grown = (private_kb(worker.pid) - before) / 1024
                figures.add(f"grown with {count} mute", grown)
                if count == 0:
                    figures.note_faults(sample)
                return


def delayed_acks() -> int:
    """How often the kernel has sent an acknowledgement late, as nothing else was to be sent.

    Senders wait for these only while its congestion control holds them back. BBR does that to all
    connections at once, for a tenth of a second, whoever the server is: the C one, too.
    """
    names, values = (
        line.split()
        for line in Path("/proc/net/netstat").read_text().splitlines()
        if line.startswith("TcpExt:")
    )
    return int(values[names.index("DelayedACKs")])
