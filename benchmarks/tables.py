"""The figures as tables: for the terminal, and for the documentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.figures import Figures, Results
from benchmarks.scenarios import Kind, Scenario

Row = tuple[str, ...]

COLUMNS: dict[Kind, dict[str, str]] = {
    "deliveries": {
        "CPU µs per delivery": "cost",
        "÷ C": "cost/floor",
        "÷ tutorial": "cost/tutorial",
        "deliveries/s": "speed",
        "p50 ms": "p50",
        "p99 ms": "p99",
        "bytes per delivery": "bytes",
    },
    "storm": {
        "CPU µs per connection": "cost",
        "÷ C": "cost/floor",
        "÷ tutorial": "cost/tutorial",
        "until joined": "cost joined",
        "joined/s": "speed",
    },
    "memory": {"KB per connection": "kb", "above bare uvicorn": "kb above bare"},
    "mute": {
        "p99 ms, none mute": "p99 with 0 mute",
        "1 mute": "p99 with 1 mute",
        "20 mute": "p99 with 20 mute",
        "20 ÷ none": "p99 20/0",
        "% lost with 20": "lost with 20 mute",
        "MB grown with 20": "grown with 20 mute",
    },
    "jitter": {
        "% delivered": "delivered",
        "p50 ms": "p50",
        "p99 ms": "p99",
        "longest": "longest",
        "cuts": "cuts",
        "replaced: back after ms": "back after",
        "over ms": "back over",
        "in the fullest 100 ms": "busiest",
    },
    "cluster": {
        "CPU ms per count": "count cost",
        "ms": "count ms",
        "CPU ms per fetch": "fetch cost",
        "ms ": "fetch ms",
    },
    "history": {
        "Redis' CPU µs per message, 1 under way": "redis cost, 1",
        "16 under way": "redis cost, 16",
        "bytes in Redis per kept message": "bytes in redis",
        "bytes in the worker": "bytes in worker",
    },
    "edges": {
        "CPU µs per message": "cost",
        "of that where the clients are": "held",
        "p50 ms": "p50",
        "p99 ms": "p99",
        "publishes per message": "publishes",
        "of its clients dropped by a deploy": "reconnects",
    },
    "presence": {
        "Redis' CPU µs per join": "join",
        "per socket of a dead worker": "reap",
        "bytes in Redis per socket in a room": "bytes",
    },
}


def number(value: float) -> str:
    """Two or three digits that matter."""
    if math.isnan(value):
        return "–"
    if value >= 10_000:
        return f"{value / 1000:,.0f} k"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(scenario: Scenario, results: Results) -> list[Row]:
    """A heading, and a row for each server, the cheapest first."""
    columns = {
        title: key
        for title, key in COLUMNS[scenario.kind].items()
        if any(key in figures.values for figures in results.values())
    }
    first = next(iter(columns.values()))
    measured = [name for name, figures in results.items() if first in figures.values]
    measured.sort(key=lambda name: results[name].median(first))
    rows = [_row(scenario, name, results[name], list(columns.values())) for name in measured]
    return [("server", *columns), *rows]


def _row(scenario: Scenario, name: str, figures: Figures, keys: Sequence[str]) -> Row:
    mark = " †" if figures.faults else ""
    label = scenario.entry(name).label + mark
    return (label, *(number(figures.median(key)) for key in keys))


def faults(scenario: Scenario, results: Results) -> list[str]:
    """A line for each server that lost, doubled or mixed up messages, or hung up."""
    return [
        f"† {scenario.entry(name).label}: {figures.faults} messages or connections were lost."
        for name, figures in results.items()
        if figures.faults
    ]


def as_text(scenario: Scenario, results: Results) -> str:
    """For the terminal."""
    lines = table(scenario, results)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        [
            f"{scenario.name}: {scenario.title}",
            *("  ".join(_pad(line, widths)).rstrip() for line in lines),
            *faults(scenario, results),
        ]
    )


def _pad(cells: Row, widths: Sequence[int]) -> list[str]:
    first, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return [first.strip().ljust(widths[0]), *others]


def as_markdown(scenario: Scenario, results: Results) -> str:
    """For the documentation; our own rows are bold."""
    heading, *rows = table(scenario, results)
    lines = [_line(heading), "|---|" + "--:|" * (len(heading) - 1)]
    lines += [_line(_emphasised(row)) for row in rows]
    return "\n".join([*lines, *(f"\n{line}" for line in faults(scenario, results))])


def _line(cells: Row) -> str:
    return f"| {' | '.join(cells)} |"


def _emphasised(row: Row) -> Row:
    return tuple(f"**{cell}**" for cell in row) if row[0].startswith("fastapi_rooms") else row
