"""What was measured: a value for each round, by name."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from benchmarks.load import Sample


@dataclass
class Figures:
    """What one server came to in one scenario.

    `cost` is CPU µs per delivery or connection, `cost/NAME` that over a reference server's of the
    same seconds, `speed` deliveries or connections per second, `p50` and `p99` are ms.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    faults: int = 0
    """Messages lost, doubled, out of order or changed, and connections that ended."""

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, []).append(value)

    def note_faults(self, sample: Sample) -> None:
        self.faults += sample.faults

    def median(self, name: str) -> float:
        return statistics.median(self.values[name]) if self.values.get(name) else math.nan

    def as_json(self) -> dict[str, Any]:
        values = {name: [_rounded(v) for v in values] for name, values in self.values.items()}
        return {"faults": self.faults, **values}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = {
            name: [math.nan if v is None else v for v in values]
            for name, values in data.items()
            if name != "faults"
        }
        return cls(values, data["faults"])


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


Results = Mapping[str, Figures]
"""By the names of a scenario's entries."""


def compare(one: Figures, other: Figures, name: str) -> float:
    """The median over the rounds of one server's value over another's.

    A cost is compared by what it is beside the tutorial's loop in the same seconds, if that ran.
    """
    if name == "cost" and "cost/tutorial" in one.values:
        name = "cost/tutorial"
    pairs = zip(one.values.get(name, ()), other.values.get(name, ()), strict=False)
    ratios = [a / b for a, b in pairs if b]
    return statistics.median(ratios) if ratios else math.nan
