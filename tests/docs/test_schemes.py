"""The page about addresses has a row for every URL scheme, and for no other."""

from __future__ import annotations

import re

from fastapi_rooms.adapters.schemes import SCHEMES
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "howto" / "deployment" / "redis.md"


def test_every_scheme_has_a_row_and_every_row_a_scheme() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Addresses")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z+]+)://", section, re.MULTILINE)
    assert set(rows) == {scheme.name for scheme in SCHEMES}
