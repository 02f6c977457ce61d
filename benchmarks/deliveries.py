"""Rounds of messages: every server's beside the reference servers' of the same seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from benchmarks.effort import Effort
from benchmarks.figures import Figures, Results
from benchmarks.load import Sample
from benchmarks.scenarios import Entry, Scenario
from benchmarks.stage import Stage, raise_curtain

SLICE_NS = 80_000_000
"""CPU time that a server gets in a slice, about."""
MOST_BATCHES = 60
MOST_AT_ONCE = 16
"""Acknowledgements that Linux sends at once after a pause: as many as half the window has room for
messages, up to these."""
WARM_UP = 0.3


class Slicer:
    """Gives a server the number of batches that fill a slice, and a sample of them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._batches = 1
        stage.load.speed(WARM_UP, stage.scenario.window)
        for _ in range(2):
            per_batch = max(1, self.sample().cpu_ns) / self._batches
            self._batches = max(1, min(MOST_BATCHES, round(SLICE_NS / per_batch)))

    def sample(self) -> Sample:
        """Measure a slice, after one batch that brings its memory back into the caches.

        Where compressed messages are compared with longer ones it is after more: a connection that
        was idle acknowledges a few at once, in the server's time, and the shorter the more of them.
        """
        is_noise = self._stage.scenario.messages == "noise"
        self._cost(1 if is_noise else min(self._batches, MOST_AT_ONCE))
        return self._cost(self._batches)

    def _cost(self, batches: int) -> Sample:
        scenario = self._stage.scenario
        return self._stage.load.cost(
            batches, scenario.window, depth=scenario.depth, stopped=scenario.stopped
        )


def measure(scenario: Scenario, entries: Sequence[Entry], effort: Effort) -> Results:
    """Measure servers in a scenario, all of them on stage at once."""
    figures = {entry.name: Figures() for entry in entries}
    for _ in range(effort.lives):
        with ExitStack() as stack:
            stages = raise_curtain(entries, stack, fill=True)
            _measure_cost(scenario, stages, figures, effort)
            if effort.speed and not scenario.cost_only:
                _measure_speed(stages, figures, effort)
    return figures


def _measure_cost(
    scenario: Scenario, stages: Mapping[str, Stage], figures: Results, effort: Effort
) -> None:
    slicers = {name: Slicer(stage) for name, stage in stages.items()}
    references = {name: slicers[name] for name in scenario.references if name in slicers}
    for _ in range(effort.rounds):
        before = {name: slicer.sample() for name, slicer in references.items()}
        for name, slicer in slicers.items():
            if name in references:
                continue
            sample = slicer.sample()
            after = {name: slicer.sample() for name, slicer in references.items()}
            _note_cost(figures[name], sample, before, after)
            _note_bytes(scenario, figures[name], sample)
            before = after
        for name, sample in before.items():
            _note_cost(figures[name], sample, before, before)
            _note_bytes(scenario, figures[name], sample)


def _note_cost(
    figures: Figures, sample: Sample, before: Mapping[str, Sample], after: Mapping[str, Sample]
) -> None:
    figures.note_faults(sample)
    figures.add("cost", sample.cost)
    for name in before:
        figures.add(f"cost/{name}", sample.cost * 2 / (before[name].cost + after[name].cost))


def _note_bytes(scenario: Scenario, figures: Figures, sample: Sample) -> None:
    """Only of messages as they are: noise is as long on the wire as it is."""
    if scenario.messages != "noise":
        figures.add("bytes", sample.bytes_each)


def _measure_speed(stages: Mapping[str, Stage], figures: Results, effort: Effort) -> None:
    for name, stage in stages.items():
        sample = stage.load.speed(effort.seconds, stage.scenario.window)
        figures[name].add("speed", sample.speed)
        figures[name].note_faults(sample)
        sample = stage.load.rate(stage.scenario.per_second, effort.seconds * 2)
        figures[name].add("p50", sample.p50_ms)
        figures[name].add("p99", sample.p99_ms)
        figures[name].note_faults(sample)
