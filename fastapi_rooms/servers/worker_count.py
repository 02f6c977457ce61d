"""How many worker processes this application was started with, as far as that can be found out.

Rooms in memory do not meet across processes, and nothing fails when they do not: people in one
room just stop hearing some of the others. So the manager asks here before it starts in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from types import FrameType


def count_workers(argv: Sequence[str], environ: Mapping[str, str], frame: FrameType | None) -> int:
    """The number of worker processes that the server was told to run; 1 if nothing says more.

    The server's own settings count most, then the command line, then the environment that
    servers read.
    """
    return (
        _from_server(frame)
        or _from_arguments(argv)
        or _from_arguments(environ.get("GUNICORN_CMD_ARGS", "").split())
        or _number(environ.get("WEB_CONCURRENCY"))
        or 1
    )


def count_workers_here() -> int:
    """`count_workers` of this process, called below the server's own frames."""
    return count_workers(sys.argv, os.environ, sys._getframe())


def _from_arguments(argv: Sequence[str]) -> int | None:
    """`--workers 4`, `--workers=4`, `-w 4`, `-w4`: of uvicorn, gunicorn, hypercorn, granian."""
    for position, argument in enumerate(argv):
        if argument in ("--workers", "-w"):
            return _number(argv[position + 1]) if position + 1 < len(argv) else None
        for prefix in ("--workers=", "-w"):
            if argument.startswith(prefix) and (number := _number(argument[len(prefix) :])):
                return number
    return None


def _from_server(frame: FrameType | None) -> int | None:
    """What `uvicorn.Server` or gunicorn's `Arbiter`, found below us on the stack, was set to.

    That is how `uvicorn.run("app:app", workers=4)` and a gunicorn configuration file show, which
    leave no trace on the command line. Only the servers' own frames are looked into: to read a
    frame's locals copies them all, and what others keep in theirs is none of our business.
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
                return 1  # with --reload it runs one, whatever number it was told
            workers = _number(getattr(config, "workers", None))
            if workers and workers > 1:
                return workers  # else gunicorn may be further down, whose workers run a Server each
        frame = frame.f_back
    return None


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
