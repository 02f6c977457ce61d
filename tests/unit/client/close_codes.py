"""The table on the page "Close codes": what clients are documented to do after each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "close-codes.md"

CODES = range(1000, 5000)

_ROW = re.compile(r"^\| (\d[\d, to]*) \|.*\| ([a-z ]+) \|$", re.MULTILINE)


def documented() -> dict[int, str]:
    """`returns`, `new token` or `ends`, by code. A row about fewer codes outranks others."""
    table = PAGE.read_text(encoding="utf-8").partition("## After it is accepted")[2]
    rows = [(set(_codes_in(text)), word) for text, word in _ROW.findall(table)]
    assert len(rows) >= 25
    policy = {}
    for code in CODES:
        about = [(len(codes), word) for codes, word in rows if code in codes]
        assert about, f"{code} is not on the page"
        (policy[code],) = {word for size, word in about if size == min(about)[0]}
    return policy


def _codes_in(text: str) -> Iterator[int]:
    """The codes in `1004, 1016 to 2999`."""
    for part in text.split(", "):
        first, _, last = part.partition(" to ")
        yield from range(int(first), int(last or first) + 1)
