"""The plot of a run: each server's cost beside the bare C server's, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Self

from benchmarks.bar import AllResults
from benchmarks.scenarios import SCENARIOS

PANELS = {
    "fanout-1000": "One room of 1000",
    "burst-16": "16 messages at once to a room of 1000",
    "rooms-2": "500 rooms of 2, through the endpoint",
    "two-workers": "Two workers through Redis",
}
WIDTH, LABELS, ROW, TOP, MARGIN = 860, 330, 22, 58, 24
Row = tuple[str, str, float]
"""A label, a group, and how many times the bare C server's cost."""
STYLE = """
svg { font: 13px system-ui, sans-serif; }
.card { fill: #ffffff; stroke: #d0d7de; }
text { fill: #1f2328; }
.faint { fill: #59636e; font-size: 12px; }
.title { font-weight: 600; font-size: 14px; }
.grid { stroke: #d0d7de; }
.stem { stroke: #d0d7de; stroke-width: 2; }
.peer { fill: #818b98; }
.reference { fill: #1f2328; }
.ours { fill: #009485; }
text.ours { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .card { fill: #161b22; stroke: #3d444d; }
  text { fill: #f0f6fc; }
  .faint { fill: #9198a1; }
  .grid, .stem { stroke: #3d444d; }
  .peer { fill: #9198a1; }
  .reference { fill: #f0f6fc; }
  .ours { fill: #2dd4bf; }
}
"""


def plot(results: AllResults) -> str:
    """An SVG that stands on a card of its own, so that it can be read on any page."""
    panels = [(title, _rows(results, name)) for name, title in PANELS.items()]
    panels = [(title, rows) for title, rows in panels if rows]
    axis = Axis.over(ratio for _, rows in panels for _, _, ratio in rows)
    parts: list[str] = []
    y = MARGIN
    for title, rows in panels:
        parts += _panel(title, rows, axis, y)
        y += TOP + len(rows) * ROW + MARGIN
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    about = "CPU time per delivery of several WebSocket servers, over that of a bare C server"
    title = f"<title>{about}</title>"
    card = f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{y - 1}" rx="8"/>'
    return "\n".join([head, title, f"<style>{STYLE}</style>", card, *parts, "</svg>\n"])


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic one, the same for every panel."""

    low: float
    high: float

    @classmethod
    def over(cls, ratios: Iterable[float]) -> Self:
        known = [1.0, *ratios]
        return cls(10 ** math.floor(math.log10(min(known))), max(known) * 1.5)

    def x(self, value: float) -> float:
        room = WIDTH - LABELS - MARGIN * 2
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(LABELS + room * share, 1)

    def ticks(self) -> Iterator[float]:
        decade = self.low
        while decade <= self.high:
            yield decade
            decade *= 10


def _rows(results: AllResults, name: str) -> list[Row]:
    """Of each server in a scenario, the cheapest first."""
    found = []
    for entry, figures in results.get(name, {}).items():
        ratio = figures.median("cost/floor")
        if math.isfinite(ratio):
            about = SCENARIOS[name].entry(entry)
            found.append((about.label, about.server.group, ratio))
    return sorted(found, key=lambda row: row[2])


def _panel(title: str, rows: Sequence[Row], axis: Axis, y: int) -> Iterator[str]:
    bottom = y + TOP + len(rows) * ROW
    yield _text(title, MARGIN, y + 14, "title")
    yield _text("CPU per delivery ÷ bare C; less is better", MARGIN, y + 33, "faint")
    for tick in axis.ticks():
        yield _line("grid", (axis.x(tick), y + TOP - 8), (axis.x(tick), bottom))
        yield _text(f"{tick:g}×", axis.x(tick), y + TOP - 14, "faint", "middle")
    for i, (label, group, ratio) in enumerate(rows):
        middle = y + TOP + i * ROW + ROW // 2
        yield _text(label, LABELS - 12, middle + 4, "ours" if group == "ours" else "", "end")
        yield _line("stem", (axis.x(1), middle), (axis.x(ratio), middle))
        yield f'<circle class="{group}" cx="{axis.x(ratio)}" cy="{middle}" r="5"/>'
        # On the side that the stem does not come from.
        side, anchor = (10, "start") if ratio >= 1 else (-10, "end")
        yield _text(_short(ratio), axis.x(ratio) + side, middle + 4, "faint", anchor)


def _line(kind: str, start: tuple[float, float], end: tuple[float, float]) -> str:
    ends = f'x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"'
    return f'<line class="{kind}" {ends}/>'


def _text(text: str, x: float, y: float, kind: str, anchor: str = "start") -> str:
    where = f'x="{x}" y="{y}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(text)}</text>'


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.2g}"
