"""Finds out how many worker processes the server runs, as far as possible.

Rooms in memory do not span processes, and nothing fails if there are several: members of one room
on different workers just do not receive each other's messages. So a manager that starts in memory
warns if there are several workers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import FrameType


def count_workers(argv: Sequence[str], environ: Mapping[str, str], frame: FrameType | None) -> int:
    """How many worker processes the server is configured to run; 1 if nothing says otherwise.

    The settings of a server on the stack take precedence over the command line, and that over the
    environment variables that servers read.
    """
    return (
        _from_server(frame)
        or _from_arguments(argv)
        or _from_arguments(environ.get("GUNICORN_CMD_ARGS", "").split())
        or _number(environ.get("WEB_CONCURRENCY"))
        or 1
    )


def count_workers_here() -> int:
    """`count_workers` for this process. To be called by the server, however indirectly."""
    return count_workers(sys.argv, os.environ, sys._getframe())


def _from_arguments(argv: Sequence[str]) -> int | None:
    """Read `--workers 4`, `--workers=4`, `-w 4` or `-w4`, as several servers take it."""
    for position, argument in enumerate(argv):
        if argument in ("--workers", "-w"):
            return _number(argv[position + 1]) if position + 1 < len(argv) else None
        for prefix in ("--workers=", "-w"):
            if argument.startswith(prefix) and (number := _number(argument[len(prefix) :])):
                return number
    return None


def _from_server(frame: FrameType | None) -> int | None:
    """Read the setting of a `uvicorn.Server` or gunicorn `Arbiter` among our callers.

    `uvicorn.run("app:app", workers=4)` and gunicorn's configuration file leave no trace on the
    command line. Only frames of these servers are inspected, because reading `f_locals` copies all
    local variables of a frame.
    """
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        is_servers = module.partition(".")[0] in ("uvicorn", "gunicorn")
        server = frame.f_locals.get("self") if is_servers else None
        kind = type(server)
        if kind.__name__ == "Arbiter" and kind.__module__.startswith("gunicorn"):
            return _number(getattr(server, "num_workers", None))
        if kind.__name__ == "Server" and kind.__module__.startswith("uvicorn"):
            config = getattr(server, "config", None)
            if getattr(config, "reload", False):
                return 1  # with --reload uvicorn ignores the number
            workers = _number(getattr(config, "workers", None))
            if workers and workers > 1:
                return workers  # if not, gunicorn may follow: its workers run a Server each
        frame = frame.f_back
    return None


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
