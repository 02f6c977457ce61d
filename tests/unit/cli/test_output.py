"""What the command line makes of rows, and the tables that fit a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.cli import output
from fastapi_rooms.cli.output import duration, fold, print_line, print_rows, printable


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3_661, "1h 1m"),
        (90_061, "1d 1h"),
        (86_400 * 400 + 5, "400d 5s"),
    ],
)
def test_spans_of_time_are_shown_by_their_two_largest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tea, Wörter, 茶 🍵", "tea, Wörter, 茶 🍵"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb\t\x00\x9b", "a\\r\\nb\\t\\x00\\x9b"),
        ("\u202eevil\u2028", "\\u202eevil\\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_instead(text: str, shown: str) -> None:
    assert printable(text) == shown


class _Broken(TextIOWrapper):
    """An output that cannot be written to."""

    def __init__(self, error: OSError) -> None:
        super().__init__(BytesIO())
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


def _stdout_that_is(what: str) -> TextIOWrapper | None:
    match what:
        case "closed":
            return None
        case "full":
            return Path("/dev/full").open("w")  # what is given to it waits in a buffer
        case "latin-1":
            return TextIOWrapper(BytesIO(), encoding="latin-1")
        case _:
            return _Broken(OSError(what))


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("closed", "it is closed"),
        ("full", "No space left on device"),
        ("latin-1", r"it is latin-1, which has no '\u8336'; set PYTHONIOENCODING=utf-8"),
        ("gone", "gone"),
    ],
)
def test_an_output_that_cannot_be_written_ends_the_command_with_one_line(
    what: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stdout = _stdout_that_is(what)
    monkeypatch.setattr(sys, "stdout", stdout)
    with pytest.raises(typer.Exit) as end:
        print_line("茶")
    if stdout is not None:
        stdout.close()  # as Python does at its end: it must not fail then
    monkeypatch.undo()
    assert end.value.exit_code == 1
    err = capsys.readouterr().err
    assert err == f"fastapi-rooms: nothing more can be written to the standard output: {why}\n"


def test_a_closed_output_is_no_terminal_and_no_program_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(typer.Exit):
        print_rows([], {}, as_json=True, if_empty="")
    assert "it is closed" in capsys.readouterr().err


def test_a_reader_who_has_gone_is_left_to_the_end_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", _Broken(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        print_line("tea")
    assert capsys.readouterr().err == ""


ROWS: list[dict[str, Any]] = [
    {"room": "tea", "names": ["ann", "b\x1b"], "data": {"a": 1}, "n": 1},
    {"room": "a long name", "names": [], "data": {}, "n": None},
]
COLUMNS = {"room": "room", "names": "names", "data": "data", "n": "n"}


def test_a_table_is_as_wide_as_it_has_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    print_rows(ROWS, COLUMNS, as_json=False, if_empty="nothing")
    assert capsys.readouterr().out.splitlines() == [
        "",
        " room          names        data      n",
        " ──────────────────────────────────────",
        ' tea           ann, b\\x1b   {"a":1}   1',
        " a long name",
        "",
    ]


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)


@given(st.lists(st.tuples(texts, texts, texts, texts), min_size=1, max_size=3))
def test_nothing_is_lost_at_80_columns(cells: list[tuple[str, ...]]) -> None:
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setattr(typer, "echo", lines.append)
        output._table(["one", "two", "three", "four"], [list(row) for row in cells])
    assert max(output._width(line) for line in lines) <= 80
    shown = Counter("".join(lines))
    for character, times in Counter("".join(map("".join, cells))).items():
        assert character == " " or shown[character] >= times


@given(st.text("a \u0301茶", max_size=40), st.integers(2, 12))
def test_a_fold_keeps_every_character_in_its_place(text: str, width: int) -> None:
    lines = fold(text, width)
    assert "".join(lines) == text
    assert all(output._width(line) <= width for line in lines)


def test_a_fold_comes_behind_a_blank_where_that_is_not_too_early() -> None:
    assert fold("kitchen, tea, x", 9) == ["kitchen, ", "tea, x"]
    assert fold("a kitchensink", 8) == ["a kitche", "nsink"]


@pytest.mark.parametrize("as_json", [True, False])
def test_whatever_clients_have_put_into_their_data_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    deep: list[object] = []
    for _ in range(499):
        deep = [deep]
    data = {"deep": deep, "big": 2**70, "half": "\ud800", "c1": "\x9b2J\x7f"}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_rows([{"data": data}], {"data": "data"}, as_json=as_json, if_empty="")
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    if as_json:
        [row] = json.loads(out)
        assert row["data"] == data
