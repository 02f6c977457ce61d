"""Writes a table to a terminal, and JSON to anything else.

Names, data and messages come from clients. Their control characters are escaped, so that they
cannot control the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import typer

SID_WIDTH = 33
"""The length of a generated sid, which is not broken into lines, so that it can be copied."""


def for_terminal(as_json: bool) -> bool:
    """Whether the output is a terminal, and `--json` was not given."""
    return sys.stdout.isatty() and not as_json


def printable(text: str) -> str:
    """Escape control characters as Python does, as a terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(value: Any) -> str:
    """Encode a value as one line of JSON."""
    return orjson.dumps(value, default=repr).decode()


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, if_empty: str
) -> None:
    """Print rows as JSON, or those `columns` (key → heading) of them as a table."""
    if not for_terminal(as_json):
        typer.echo(orjson.dumps(rows, default=repr, option=orjson.OPT_INDENT_2).decode())
    elif not rows:
        typer.echo(if_empty)
    else:
        cells = [[_cell(row[name]) for name in columns] for row in rows]
        _table(list(columns.values()), cells)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return ", ".join(printable(str(each)) for each in value)
    if isinstance(value, dict):
        return printable(json_line(value)) if value else ""
    return str(value)


def _table(headings: list[str], cells: list[list[str]]) -> None:
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:  # typer works without it
        _plain_table(headings, cells)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        # The first column has names, which are kept in one piece to be copied.
        longest = max(len(row[number]) for row in cells)
        width = min(longest, SID_WIDTH) if number == 0 else None
        table.add_column(heading, overflow="fold", min_width=width)
    for row in cells:
        table.add_row(*map(Text, row))  # a `Text` is not parsed for markup
    Console(highlight=False).print(table)


def _plain_table(headings: list[str], cells: list[list[str]]) -> None:
    rows = [headings, *cells]
    widths = [max(len(row[n]) for row in rows) for n in range(len(headings))]
    for row in rows:
        typer.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
    rest = int(seconds)
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def plural(number: int, noun: str) -> str:
    """A number and its noun: `1 worker`, `2 workers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_stderr(text: str) -> None:
    """Print a message that is not part of the output."""
    typer.echo(f"fastapi-rooms: {printable(text)}", err=True)
