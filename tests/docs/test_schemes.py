"""The pages about addresses have a row for every URL scheme, and for no other."""

from __future__ import annotations

import re

from fastapi_rooms.adapters.schemes import SCHEMES
from tests.docs.pages import ROOT

PAGES = [ROOT / "docs" / "howto" / "deployment" / name for name in ("redis.md", "rabbitmq.md")]


def test_every_scheme_has_a_row_and_every_row_a_scheme() -> None:
    rows = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        section = text.partition("## Addresses")[2].partition("\n## ")[0]
        rows += re.findall(r"^\| `([a-z+]+)://", section, re.MULTILINE)
    assert set(rows) == {scheme.name for scheme in SCHEMES}
