"""Writes a table to a terminal, and JSON to anything else.

Names, data and messages come from clients. Their control characters are escaped, so that they
cannot control the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, NoReturn
from unicodedata import combining, east_asian_width

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, even to a terminal.")]
"""The option of every command that shows something."""

SID_WIDTH = 33
"""The length of a generated sid, which is not broken into lines, so that it can be copied."""
_GAP = 3
_LEAST = 4
"""How narrow a column can become, in columns of the terminal."""


def for_terminal(as_json: bool) -> bool:
    """Whether the output is a terminal, and `--json` was not given.

    Ends the command if there is no standard output.
    """
    if sys.stdout is None:  # so Python has it where a shell has closed it: >&-
        _end("it is closed")
    return sys.stdout.isatty() and not as_json


def print_line(text: str) -> None:
    """Print a line of the output; end the command if that cannot be written."""
    if sys.stdout is None:
        _end("it is closed")
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise  # whoever reads it wants no more: the command ends quietly
    except UnicodeEncodeError as error:
        _end(
            f"it is {error.encoding}, which has no {printable(ascii(error.object[error.start]))}; "
            "set PYTHONIOENCODING=utf-8"
        )
    except OSError as error:
        _give_up()
        _end(error.strerror or str(error))


def _give_up() -> None:
    """Let go of what is not written yet: Python would try it again at its end, and complain."""
    with suppress(OSError), Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _end(why: str) -> NoReturn:
    print_stderr(f"nothing more can be written to the standard output: {why}")
    raise typer.Exit(1) from None


def printable(text: str) -> str:
    """Escape control characters as Python does, as a terminal would obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def json_line(value: Any) -> str:
    """Encode a value as one line of JSON."""
    return _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    """A value as JSON, whatever clients have put into it: depth, numbers, half characters."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False, default=repr)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, if_empty: str
) -> None:
    """Print rows as JSON, or those `columns` (key → heading) of them as a table."""
    if not for_terminal(as_json):
        print_line(_json(rows, indent=2))
    elif not rows:
        print_line(if_empty)
    else:
        cells = [[_cell(row[name]) for name in columns] for row in rows]
        _table(list(columns.values()), cells)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return ", ".join(printable(str(each)) for each in value)
    if isinstance(value, dict):
        return printable(json_line(value)) if value else ""
    return str(value)


def _table(headings: list[str], cells: list[list[str]]) -> None:
    """Print a table that fits the terminal: what is too long goes on in the next line."""
    columns = list(zip(headings, *cells, strict=True))
    widths = _fitting([max(map(_width, column)) for column in columns], get_terminal_size().columns)
    lines = _lines(headings, widths)
    lines += ["─" * min(sum(widths) + _GAP * (len(widths) - 1), get_terminal_size().columns - 1)]
    for row in cells:
        lines += _lines(row, widths)
    for line in ("", *lines, ""):
        print_line(f" {line}".rstrip(" "))


def _lines(row: list[str], widths: list[int]) -> list[str]:
    """The lines of a row, without the blank before each."""
    folded = [fold(text, width) for text, width in zip(row, widths, strict=True)]
    return [
        (" " * _GAP).join(
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        )
        for line in zip_longest(*folded, fillvalue="")
    ]


def _fitting(widths: list[int], available: int) -> list[int]:
    """The widths, with the widest made narrower until all fit.

    The first column has names, which are kept in one piece to be copied, up to those of sids.
    """
    least = [min(widths[0], SID_WIDTH), *[min(width, _LEAST) for width in widths[1:]]]
    widths = list(widths)
    while sum(widths) + _GAP * (len(widths) - 1) + 1 > available and widths != least:
        wide = max(range(len(widths)), key=lambda n: (widths[n] > least[n], widths[n]))
        widths[wide] -= 1
    return widths


def fold(text: str, width: int) -> list[str]:
    """A text as lines that are not wider, broken behind blanks where that is not too early."""
    lines = []
    while _width(text) > width:
        end, wide = 0, 0
        while end == 0 or wide + _width(text[end]) <= width:
            wide += _width(text[end])
            end += 1
        blank = text.rfind(" ", 0, end) + 1
        end = blank if blank > end // 2 else end
        lines.append(text[:end])
        text = text[end:]
    return [*lines, text]


def _width(text: str) -> int:
    """How many columns a terminal needs for a text."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "FW") for c in text)


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
