"""The uvicorn that runs this process: which one it is, and when it begins to stop.

What this leans on: uvicorn installs a method of its `Server` as the handler of `SIGTERM`, in the
main thread, before the application's lifespan begins, and runs the lifespan in a task of its own,
whose coroutine is a method of the server's `lifespan`. The server calls its `shutdown`, a coroutine
method, when it begins to stop, for whatever reason, and `config.timeout_graceful_shutdown` says for
how long it then waits. We put ours before this method, on the one instance; any doubt means that
nobody tells us but our connections (see `uvicorn.py`), and the end of the lifespan.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

logger = logging.getLogger("fastapi_rooms")

OLDEST, NEWEST = (0, 53), (0, 54)
"""The uvicorn releases, inclusive, that the tests of this file have run on.

Before 0.53 uvicorn's default implementation did not stop an application from sending to a client
that is behind, so its sends would have overtaken what waits here.
"""

OLDEST_PARSER, NEWEST_PARSER = 15, 17
"""The major releases of websockets, inclusive, whose parser `uvicorn_reader.py` knows."""

OnShutdown = Callable[[float | None], float | None]
"""Called when the server begins to stop, with the seconds it waits for its connections, if it does
not wait for ever. Returns how many a client has to take what is left for it, or `None` if nobody
will close this connection but the server."""


class _Shutdown:
    """What the server calls when it begins to stop, in place of its own `shutdown`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.told: list[OnShutdown] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        for on_shutdown in [*self.told]:
            try:
                on_shutdown(self._server.config.timeout_graceful_shutdown)
            except Exception:  # the server stops, whatever becomes of us
                logger.exception("Clients could not be seen out: leaving did not begin")
        await type(self._server).shutdown(self._server, *args, **kwargs)


def on_server_shutdown(on_shutdown: OnShutdown) -> Callable[[], None] | None:
    """Have the server that runs this process tell when it begins to stop.

    Returns how to have it do so no longer, or `None` when there is any doubt about the server.
    """
    server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if (
        threading.current_thread() is not threading.main_thread()
        or (type(server).__module__, type(server).__name__) != ("uvicorn.server", "Server")
        or not tested_version()
        or not _is_being_started_by(server)
        or not hasattr(getattr(server, "config", None), "timeout_graceful_shutdown")
        or not inspect.iscoroutinefunction(getattr(type(server), "shutdown", None))
    ):
        return None
    shutdown = vars(server).setdefault("shutdown", _Shutdown(server))
    if not isinstance(shutdown, _Shutdown):
        return None
    shutdown.told.append(on_shutdown)
    return lambda: shutdown.told.remove(on_shutdown)


def _is_being_started_by(server: Any) -> bool:
    """Whether this is its lifespan: of two servers in a process, one alone handles signals."""
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    lifespan = getattr(server, "lifespan", None)
    return lifespan is not None and frame is not None and frame.f_locals.get("self") is lifespan


def tested_parser() -> bool:
    """Whether the parser that uvicorn uses is one the tests have run on."""
    version = _version_of("websockets")
    return (OLDEST_PARSER,) <= version[:1] <= (NEWEST_PARSER,)


def tested_version() -> bool:
    """Whether the uvicorn that runs this process is one the tests have run on."""
    return OLDEST <= _version_of("uvicorn") <= NEWEST


def _version_of(module: str) -> tuple[int, ...]:
    """The first two numbers of a version, if there are such, of a module that is imported."""
    return _numbers_of(str(getattr(sys.modules.get(module), "__version__", "")))


@cache
def _numbers_of(version: str) -> tuple[int, ...]:
    try:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return ()
