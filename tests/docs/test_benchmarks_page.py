"""The figures in the pages are those that were measured last."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report
from tests.docs.pages import ROOT, prose_of


def test_the_tables_and_the_plot_are_those_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {name: getattr(report, name) for name in ("PAGE", "PLOT")}
    for name, path in shown.items():
        copy = tmp_path / path.name
        copy.write_text(path.read_text())
        monkeypatch.setattr(report, name, copy)
    report.redraw()
    for path in shown.values():
        redrawn = (tmp_path / path.name).read_text()
        assert redrawn == path.read_text(), "run python -m benchmarks --redraw"


def test_the_costs_that_are_summed_up_are_in_the_tables() -> None:
    summary = prose_of(ROOT / "docs" / "explanation" / "performance.md")
    costs = re.findall(r"([\d.]+) µs", summary)
    assert costs
    rows = [row for row in report.PAGE.read_text().splitlines() if row.startswith("| **fastapi")]
    assert {cost for cost in costs if not any(f"| **{cost}** |" in row for row in rows)} == set()
