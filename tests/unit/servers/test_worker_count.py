"""How many workers there are: from the server itself, its command line, or the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, FunctionType
from typing import Any

import gunicorn.arbiter  # type: ignore[import-untyped]
import pytest
import uvicorn

from fastapi_rooms.servers.worker_count import count_workers, count_workers_here


def _calls(self: Any, function: Callable[[], FrameType]) -> FrameType:
    return function()


def _application() -> FrameType:
    return sys._getframe()


class _Below:
    """Puts an object on the stack as the `self` of a method, which is how a server shows there."""

    @staticmethod
    def frame(
        server: Any, above: Callable[[], FrameType] = _application, module: str = ""
    ) -> FrameType:
        name = module or type(server).__module__
        method = FunctionType(_calls.__code__, {"__name__": name})
        frame: FrameType = method(server, above)
        return frame


def _uvicorn(workers: int | None, *, reload: bool = False) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config("app:app", workers=workers, reload=reload))


def _gunicorn(workers: int) -> gunicorn.arbiter.Arbiter:
    arbiter = object.__new__(gunicorn.arbiter.Arbiter)  # its own setup would reconfigure logging
    arbiter._num_workers = workers
    return arbiter


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [
        ("uvicorn app:app", 1),
        ("uvicorn app:app --workers 4", 4),
        ("uvicorn app:app --workers=4 --port 80", 4),
        ("gunicorn -w 3 app:app", 3),
        ("gunicorn -w3 app:app", 3),
        ("gunicorn app:app -w", 1),
        ("gunicorn app:app --workers many", 1),
        ("server -wsgi app", 1),
        ("server -wsgi app --workers 2", 2),
        ("uvicorn app:app --ws websockets --workers-log x", 1),
        ("", 1),
    ],
)
def test_the_command_line_tells(arguments: str, workers: int) -> None:
    assert count_workers(arguments.split(), {}, None) == workers


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({"WEB_CONCURRENCY": "4"}, 4),
        ({"WEB_CONCURRENCY": ""}, 1),
        ({"WEB_CONCURRENCY": "auto"}, 1),
        ({"WEB_CONCURRENCY": "0"}, 1),
        ({"GUNICORN_CMD_ARGS": "--bind :80 --workers 3"}, 3),
        ({"GUNICORN_CMD_ARGS": "-w 3", "WEB_CONCURRENCY": "2"}, 3),
        ({"GUNICORN_CMD_ARGS": "--bind :80", "WEB_CONCURRENCY": "2"}, 2),
        ({}, 1),
    ],
)
def test_the_environment_tells(environ: dict[str, str], workers: int) -> None:
    assert count_workers(["uvicorn"], environ, None) == workers


def test_the_command_line_counts_more_than_the_environment() -> None:
    assert count_workers(["uvicorn", "--workers", "1"], {"WEB_CONCURRENCY": "4"}, None) == 1


def test_a_uvicorn_started_from_code_tells() -> None:
    assert count_workers([], {}, _Below.frame(_uvicorn(2))) == 2


def test_a_gunicorn_configured_by_a_file_tells() -> None:
    assert count_workers([], {}, _Below.frame(_gunicorn(3))) == 3


def test_gunicorn_tells_although_each_of_its_workers_runs_a_uvicorn_of_one() -> None:
    def worker() -> FrameType:
        return _Below.frame(_uvicorn(1))

    assert count_workers([], {}, _Below.frame(_gunicorn(3), worker)) == 3


def test_one_uvicorn_worker_is_one() -> None:
    assert count_workers(["app.py"], {}, _Below.frame(_uvicorn(1))) == 1


def test_a_reloading_uvicorn_is_one_whatever_it_was_told() -> None:
    assert count_workers(["--workers", "4"], {}, _Below.frame(_uvicorn(4, reload=True))) == 1


def test_the_server_counts_more_than_the_command_line() -> None:
    assert count_workers(["-w", "8"], {}, _Below.frame(_gunicorn(2))) == 2


def test_classes_of_the_same_names_elsewhere_tell_nothing() -> None:
    class Server:
        config = uvicorn.Config("app:app", workers=4)

    class Arbiter:
        num_workers = 4

    assert count_workers([], {}, _Below.frame(Server(), module="uvicorn.server")) == 1
    assert count_workers([], {}, _Below.frame(Arbiter(), module="gunicorn.arbiter")) == 1


class _Frame:
    """A frame that knows whether anyone has read its locals."""

    def __init__(self, module: object, below: _Frame | None = None) -> None:
        self.f_globals = {} if module is None else {"__name__": module}
        self.f_back = below
        self.read = False

    @property
    def f_locals(self) -> dict[str, Any]:
        self.read = True
        return {}


def test_only_the_frames_of_servers_are_looked_into() -> None:
    modules = [None, 3, "app", "uvicornish.server", "uvicorn.server", "gunicorn.arbiter"]
    frames: list[_Frame] = []
    for module in modules:
        frames.append(_Frame(module, frames[-1] if frames else None))
    top: Any = frames[-1]
    assert count_workers([], {}, top) == 1
    assert [frame.read for frame in frames] == [False, False, False, False, True, True]


def test_a_server_without_the_settings_we_know_tells_nothing() -> None:
    server = _uvicorn(4)
    del server.config
    environ = {"WEB_CONCURRENCY": "3"}
    assert count_workers([], environ, _Below.frame(server)) == 3
    arbiter = object.__new__(gunicorn.arbiter.Arbiter)
    assert count_workers([], environ, _Below.frame(arbiter)) == 3


def test_this_process_is_looked_at_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    monkeypatch.setattr(sys, "argv", ["uvicorn", "app:app", "--workers", "5"])
    assert count_workers_here() == 5
    monkeypatch.setattr(sys, "argv", ["uvicorn", "app:app"])
    assert count_workers_here() == 1
    monkeypatch.setenv("WEB_CONCURRENCY", "6")
    assert count_workers_here() == 6
