"""Commands that a shell runs with a standard stream closed: Python has `None` in its place."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from fastapi_rooms import UsageError
from fastapi_rooms.cli.app import _confirm, disconnect
from fastapi_rooms.cli.messages import _message
from fastapi_rooms.cli.session import EXIT_USAGE, Session


def test_nobody_is_disconnected_where_it_could_not_be_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    context: Any = SimpleNamespace(obj=Session("redis://127.0.0.1:1", "rooms", "/", 0.1))
    with pytest.raises(typer.Exit):
        disconnect(context, ["tea"], yes=True)
    assert "it is closed" in capsys.readouterr().err


def test_a_message_cannot_be_read_from_a_closed_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="no standard input"):
        _message("-", as_json=False)
    assert _message("tea", as_json=False) == "tea"


def test_nobody_can_be_asked_at_a_closed_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(typer.Exit) as end:
        _confirm("Disconnect 2 sockets?")
    assert end.value.exit_code == EXIT_USAGE
    assert "use --yes" in capsys.readouterr().err
