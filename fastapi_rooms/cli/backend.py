"""The command `backend`: runs the endpoints of an application for clients that edges hold."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fastapi_rooms import Backend, ConfigurationError, RoomManager, RoomsError
from fastapi_rooms.cli.output import print_stderr
from fastapi_rooms.cli.readiness import readiness
from fastapi_rooms.cli.serving import RedisOption, ends_by_hangup, fail, session_of
from fastapi_rooms.cli.session import EXIT_FAILED, EXIT_USAGE


def backend(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="APP", help="The application: module:name.")],
    name: Annotated[str, typer.Option(help="What the routes of edges call it.")],
    redis: RedisOption = "",
    manager: Annotated[
        str,
        typer.Option(
            help="The application's RoomManager: module:name. Else the one in the module of the "
            "application; where there is none, one is made for --redis."
        ),
    ] = "",
    capacity: Annotated[int, typer.Option(help="How many clients it takes.", min=1)] = 10_000,
    ready_file: Annotated[
        str, typer.Option(help="A file that is there as long as it is ready: for probes.")
    ] = "",
) -> None:
    """Run the endpoints of an application, for clients of edges.

    It has no port, and ends with 0 on SIGTERM.

    \b
    fastapi-rooms backend app:app --name chat
    """
    sys.path.insert(0, str(Path.cwd()))
    app = _load(target)
    if not callable(app) or isinstance(app, RoomManager):
        fail(f"{target!r} is no ASGI application, but a {type(app).__name__}.", EXIT_USAGE)
    rooms = _load(manager) if manager else _manager_beside(target)
    if rooms is not None and redis:
        fail("The application has a RoomManager of its own: leave --redis out.", EXIT_USAGE)
    if rooms is None:
        session = session_of(ctx, redis)
        rooms = RoomManager(session.url, prefix=session.prefix)
    if not isinstance(rooms, RoomManager):
        fail(f"{manager!r} is no RoomManager.", EXIT_USAGE)
    try:
        made = Backend(app, name=name, adapter=rooms, capacity=capacity)
    except ConfigurationError as error:
        fail(str(error), EXIT_USAGE)
    try:
        asyncio.run(_run_backend(app, made, ready_file))
    except (RoomsError, OSError) as error:
        fail(str(error), EXIT_FAILED)


async def _run_backend(app: Any, backend: Backend, ready_file: str) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if ends_by_hangup():
        loop.add_signal_handler(signal.SIGHUP, stopped.set)
    async with (
        _lifespan_of(app, backend.state),
        backend,
        readiness(lambda: backend.health.ready, ready_file),
    ):
        print_stderr(f"backend {backend.name!r} runs, with room for {backend.capacity} clients")
        await stopped.wait()


@asynccontextmanager
async def _lifespan_of(app: Any, state: dict[str, Any]) -> AsyncIterator[None]:
    """Run the lifespan of an application, as a server does; one that has none is left alone."""
    incoming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": state,
    }
    running = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))

    async def step(kind: str) -> dict[str, Any] | None:
        incoming.put_nowait({"type": kind})
        getting = asyncio.ensure_future(outgoing.get())
        await asyncio.wait((running, getting), return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        getting.cancel()
        return None

    began = await step("lifespan.startup")
    if began is not None and began["type"] == "lifespan.startup.failed":
        with suppress(Exception):
            await running
        typer.echo(began.get("message", ""), err=True)  # frameworks put the traceback there
        fail("The application did not start.", EXIT_FAILED)
    has_lifespan = began is not None
    if not has_lifespan:
        running.exception()  # ASGI: it raises for what it does not support
    try:
        yield
    finally:
        if has_lifespan:
            await step("lifespan.shutdown")
            await running


def _load(target: str) -> Any:
    module, colon, name = target.partition(":")
    if not colon:
        fail(f"{target!r} has no name in it: write module:name, such as app:app.", EXIT_USAGE)
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        fail(f"{target!r} cannot be imported from {Path.cwd()}: {error}", EXIT_USAGE)
    if not hasattr(found, name):
        fail(f"The module {module!r} has no {name!r}.", EXIT_USAGE)
    return getattr(found, name)


def _manager_beside(target: str) -> RoomManager | None:
    """The one manager in the module of an application."""
    values = vars(import_module(target.partition(":")[0])).values()
    found = {id(value): value for value in values if isinstance(value, RoomManager)}
    if len(found) > 1:
        fail(f"The module of {target!r} has {len(found)} managers: say --manager.", EXIT_USAGE)
    return next(iter(found.values()), None)
