"""`fastapi-rooms edge` and `backend` with what cannot be served: a line, and the status 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastapi_rooms import AdapterUnavailable, Backend, RedisAdapter
from tests.integration.terminal import run

APP = """
from fastapi import FastAPI
from fastapi_rooms import RoomManager

rooms, more = RoomManager(), RoomManager()
app = FastAPI()
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory has an application; what the commands change is changed back."""
    (tmp_path / "served_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FASTAPI_ROOMS_EDGE", "")
    monkeypatch.delitem(sys.modules, "served_app", raising=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("edge --route chat=chat", "begins with a slash"),
        ("edge --route /chat", "has no name of a backend"),
        ("edge --route /chat=chat --redis memory://", "cannot be reached from another process"),
        ("edge --route /chat=chat --redis nonsense", "has no ://"),
        ("edge --route /chat=chat --origin example.com", "is no origin"),
        ("edge --route /chat=chat --header a:b", "no name of a header"),
        ("edge --route /chat=chat --health-path health", "health_path must be a path"),
        ("edge --route /chat=chat --open-timeout 0", "open_timeout"),
        ("backend nowhere:app --name chat", "cannot be imported"),
        ("backend served_app:nothing --name chat", "has no 'nothing'"),
        ("backend served_app --name chat", "has no name in it"),
        ("backend served_app:rooms --name chat", "is no ASGI application"),
        ("backend served_app:app --name chat", "has 2 managers: say --manager"),
        ("backend served_app:app --name chat --manager served_app:app", "is no RoomManager"),
        ("backend served_app:app --manager served_app:rooms --name=", "1 to 100 characters"),
        (
            "backend served_app:app --name chat --manager served_app:rooms --redis redis://a",
            "leave --redis out",
        ),
    ],
)
async def test_what_cannot_be_served_is_said_in_a_line(arguments: str, words: str) -> None:
    output = await run(*arguments.split(), url="redis://127.0.0.1:1")
    assert (output.code, words in output.err) == (2, True), output.err
    assert output.err.count("\n") == 1


@pytest.mark.parametrize("error", [AdapterUnavailable("It is away."), OSError("It is away.")])
async def test_a_backend_that_cannot_run_is_an_error_in_a_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its application has no manager: one is made, for what the command is given."""
    made: list[Backend] = []

    async def runs(app: object, backend: Backend, ready_file: str) -> None:
        made.append(backend)
        raise error

    (tmp_path / "served_alone.py").write_text("from fastapi import FastAPI\n\napp = FastAPI()\n")
    monkeypatch.delitem(sys.modules, "served_alone", raising=False)
    monkeypatch.setattr("fastapi_rooms.cli.backend._run_backend", runs)
    arguments = ["backend", "served_alone:app", "--name", "chat"]
    output = await run(*arguments, url="redis://127.0.0.1:1")
    assert (output.code, output.err) == (1, "fastapi-rooms: It is away.\n")
    assert [backend.name for backend in made] == ["chat"]
    assert isinstance(made[0].manager._runtime.adapter, RedisAdapter)
