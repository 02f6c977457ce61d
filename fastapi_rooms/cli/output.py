"""What is written: a table where a person reads, JSON where a program does.

Names, data and messages come from clients. What of them could tell a terminal to do something is
shown, not sent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import typer

UNBROKEN = 33
"""Columns: so long is a sid that was not chosen by the application."""


def to_person(as_json: bool) -> bool:
    """Whether a person reads: the output is a terminal, and nobody asked for JSON."""
    return sys.stdout.isatty() and not as_json


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters are shown as Python does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(value: Any) -> str:
    """A value as one line of JSON."""
    return orjson.dumps(value, default=repr).decode()


def show(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, nothing: str
) -> None:
    """Show rows, of which a person sees some `columns` under their headings."""
    if not to_person(as_json):
        typer.echo(orjson.dumps(rows, default=repr, option=orjson.OPT_INDENT_2).decode())
    elif not rows:
        typer.echo(nothing)
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
    except ModuleNotFoundError:  # typer can be had without
        _plain_table(headings, cells)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        # What is first has a name to be copied from here, so it is kept in one piece.
        longest = max(len(row[number]) for row in cells)
        width = min(longest, UNBROKEN) if number == 0 else None
        table.add_column(heading, overflow="fold", min_width=width)
    for row in cells:
        table.add_row(*map(Text, row))  # as it is: no markup is looked for
    Console(highlight=False).print(table)


def _plain_table(headings: list[str], cells: list[list[str]]) -> None:
    rows = [headings, *cells]
    widths = [max(len(row[n]) for row in rows) for n in range(len(headings))]
    for row in rows:
        typer.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def duration(seconds: float) -> str:
    """A span of time in its two largest units."""
    rest = int(seconds)
    parts = []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2]) or "0s"


def complain(text: str) -> None:
    """Say what is wrong, where it is not taken for output."""
    typer.echo(f"fastapi-rooms: {printable(text)}", err=True)
