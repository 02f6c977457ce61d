"""The page about faults has a row for every fault that is played, by its name."""

from __future__ import annotations

import pytest

from tests.docs.pages import ROOT
from tests.faults.test_matrix import FAULTS

PAGE = ROOT / "docs" / "explanation" / "faults.md"


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_that_is_played_is_in_a_table(name: str) -> None:
    rows = [line.split("|")[1] for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert any(name in row.strip().split("; ") for row in rows), f"no row is about: {name}"
