"""What the command line makes of rows, without a terminal and without rich."""

from __future__ import annotations

import sys

import pytest

from fastapi_rooms.cli.output import duration, print_rows, printable


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


def test_without_rich_a_table_is_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    rows = [
        {"room": "tea", "names": ["ann", "b\x1b"], "data": {"a": 1}, "n": 1},
        {"room": "a long name", "names": [], "data": {}, "n": 20},
    ]
    columns = {"room": "room", "names": "names", "data": "data", "n": "n"}
    print_rows(rows, columns, as_json=False, if_empty="nothing")
    assert capsys.readouterr().out.splitlines() == [
        "room         names       data     n",
        'tea          ann, b\\x1b  {"a":1}  1',
        "a long name                       20",
    ]
