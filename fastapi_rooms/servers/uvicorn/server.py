"""The uvicorn server that runs this process: its version, and a hook for the start of its shutdown.

It depends on this: the method `serve` of uvicorn's `Server` is running in the same event loop when
the application's lifespan starts, in whatever thread, and the lifespan runs in a task whose
coroutine is a method of the server's `lifespan`. The server awaits its method `shutdown` when it
starts to stop, for whatever reason, and then waits for its connections, for at most
`config.timeout_graceful_shutdown` seconds. We override `shutdown` on the instance. If anything is
not as expected, the worker learns only from its connections (see `transport.py`) and from the end
of the lifespan that the server stops.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

logger = logging.getLogger("fastapi_rooms")

OLDEST_UVICORN, NEWEST_UVICORN = (0, 53), (0, 54)
"""The uvicorn releases, inclusive, that this package was tested with.

Before 0.53 uvicorn's default implementation did not pause an application that sends to a slow
client, so its messages would have overtaken those in our outbox.
"""

OLDEST_WEBSOCKETS, NEWEST_WEBSOCKETS = 15, 17
"""The major releases of websockets, inclusive, whose parser `reader.py` was tested with, and whose
compressor `deflate.py` was."""

_SERVE = ("uvicorn.server", "serve")
"""The module and the name of the method that runs a server."""

OLDEST_WSPROTO, NEWEST_WSPROTO = (1, 2), (1, 3)
"""The releases of wsproto, inclusive, whose compressor `deflate.py` was tested with."""

OnShutdown = Callable[[float | None], float | None]
"""Called when the server starts to stop, with its shutdown timeout in seconds (`None`: no timeout).

Returns how many seconds a client has to receive what is queued for it, or `None` if this worker
does not drain, so that the server has to close the connection itself.
"""


class _ShutdownHook:
    """Replaces the `shutdown` of a server: runs callbacks, then the original."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.callbacks: list[OnShutdown] = []

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        for on_shutdown in [*self.callbacks]:
            try:
                on_shutdown(self._server.config.timeout_graceful_shutdown)
            except Exception:  # an error of ours must not keep the server from stopping
                logger.exception("Draining did not start at the beginning of the server's shutdown")
        await type(self._server).shutdown(self._server, *args, **kwargs)


def on_server_shutdown(on_shutdown: OnShutdown) -> Callable[[], None] | None:
    """Call `on_shutdown` when the server that runs this process starts to stop.

    Returns a function that removes the callback, or `None` if the server is not as expected.
    """
    server = next(filter(_is_being_started_by, _servers_here()), None)
    if (
        (type(server).__module__, type(server).__name__) != ("uvicorn.server", "Server")
        or not is_tested_uvicorn()
        or not hasattr(getattr(server, "config", None), "timeout_graceful_shutdown")
        or not inspect.iscoroutinefunction(getattr(type(server), "shutdown", None))
    ):
        return None
    hook = vars(server).setdefault("shutdown", _ShutdownHook(server))
    if not isinstance(hook, _ShutdownHook):
        return None
    hook.callbacks.append(on_shutdown)
    return lambda: hook.callbacks.remove(on_shutdown)


def _servers_here() -> Iterator[Any]:
    """The servers that run in this event loop."""
    for task in asyncio.all_tasks():
        coroutine: Any = task.get_coro()
        while (frame := getattr(coroutine, "cr_frame", None)) is not None:
            # Asked of their frames only, as a frame keeps what it was once asked for.
            if (frame.f_globals.get("__name__"), frame.f_code.co_name) == _SERVE:
                yield frame.f_locals.get("self")
            coroutine = coroutine.cr_await


def _is_being_started_by(server: Any) -> bool:
    """Whether the current task runs the server's lifespan: a process may have several servers."""
    task = asyncio.current_task()
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    lifespan = getattr(server, "lifespan", None)
    return lifespan is not None and frame is not None and frame.f_locals.get("self") is lifespan


def is_tested_websockets() -> bool:
    """Whether this package was tested with the installed version of websockets."""
    version = _version_of("websockets")
    return (OLDEST_WEBSOCKETS,) <= version[:1] <= (NEWEST_WEBSOCKETS,)


def is_tested_wsproto() -> bool:
    """Whether this package was tested with the installed version of wsproto."""
    return OLDEST_WSPROTO <= _version_of("wsproto") <= NEWEST_WSPROTO


def is_tested_uvicorn() -> bool:
    """Whether this package was tested with the installed version of uvicorn."""
    return OLDEST_UVICORN <= _version_of("uvicorn") <= NEWEST_UVICORN


def _version_of(module: str) -> tuple[int, ...]:
    """The first two numbers of an imported module's version; `()` if there are none."""
    return _numbers_of(str(getattr(sys.modules.get(module), "__version__", "")))


@cache
def _numbers_of(version: str) -> tuple[int, ...]:
    try:
        major, minor = version.split(".")[:2]
        return int(major), int(minor)
    except ValueError:
        return ()
