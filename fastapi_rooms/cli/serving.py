"""The commands that serve: `edge` holds clients, `backend` runs their endpoints."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fastapi_rooms import Backend, ConfigurationError, Gateway, RoomManager
from fastapi_rooms.cli.output import print_stderr
from fastapi_rooms.cli.session import EXIT_FAILED, EXIT_USAGE, Session

EDGE = "FASTAPI_ROOMS_EDGE"
"""The environment variable by which the workers of an edge learn its options."""

RedisOption = Annotated[
    str, typer.Option("--redis", help="The Redis, as a URL; the same as --url.")
]


def edge_app() -> Gateway:
    """Make the ASGI application of a worker of `fastapi-rooms edge`."""
    options = json.loads(os.environ[EDGE])
    manager = RoomManager(options["url"], prefix=options["prefix"])
    return Gateway(
        manager,
        routes=options["routes"],
        open_timeout=options["open_timeout"],
        reattach=options["reattach"],
        reattach_timeout=options["reattach_timeout"],
    )


def edge(
    ctx: typer.Context,
    route: Annotated[
        list[str],
        typer.Option(help="A path and the name of its backends: /chat=chat. May be repeated."),
    ],
    redis: RedisOption = "",
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at.")] = 8000,
    workers: Annotated[int, typer.Option(help="How many processes.", min=1)] = 1,
    open_timeout: Annotated[
        float, typer.Option(help="Seconds that a client waits for a backend at first.")
    ] = 10.0,
    reattach: Annotated[
        bool, typer.Option(help="Whether a client that lost its backend gets another.")
    ] = True,
    reattach_timeout: Annotated[float, typer.Option(help="Seconds that it waits for that.")] = 30.0,
) -> None:
    """Hold WebSocket clients, whose endpoints run in backends. Needs uvicorn.

    \b
    fastapi-rooms edge --redis redis://localhost:6379 --route /chat=chat --workers 2
    """
    session = _session(ctx, redis)
    options = {
        "url": session.url,
        "prefix": session.prefix,
        "routes": dict(_route(one) for one in route),
        "open_timeout": open_timeout,
        "reattach": reattach,
        "reattach_timeout": reattach_timeout,
    }
    os.environ[EDGE] = json.dumps(options)
    try:
        edge_app()
    except ConfigurationError as error:
        _fail(str(error), EXIT_USAGE)
    import uvicorn

    # uvicorn raises the signal that ended it once more, which would be the end with another status.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        uvicorn.run(
            "fastapi_rooms.cli.serving:edge_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
        )


def _route(text: str) -> tuple[str, str]:
    path, equals, name = text.partition("=")
    if not equals:
        _fail(f"The route {text!r} has no name of a backend: write /chat=chat.", EXIT_USAGE)
    return path, name


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
) -> None:
    """Run the WebSocket endpoints of an application, for clients that edges hold. Has no port.

    \b
    fastapi-rooms backend app:app --name chat
    """
    sys.path.insert(0, str(Path.cwd()))
    app = _load(target)
    rooms = _load(manager) if manager else _manager_beside(target)
    if rooms is None:
        session = _session(ctx, redis)
        rooms = RoomManager(session.url, prefix=session.prefix)
    if not isinstance(rooms, RoomManager):
        _fail(f"{manager!r} is no RoomManager.", EXIT_USAGE)
    asyncio.run(_run_backend(app, Backend(app, name=name, adapter=rooms, capacity=capacity)))


async def _run_backend(app: Any, backend: Backend) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with _lifespan_of(app), backend:
        print_stderr(f"backend {backend.name!r} runs, with room for {backend.capacity} clients")
        await stopped.wait()


@asynccontextmanager
async def _lifespan_of(app: Any) -> AsyncIterator[None]:
    """Run the lifespan of an application, as a server does; one that has none is left alone."""
    incoming: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {
        "type": "lifespan",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "state": {},
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
        _fail(f"The application did not start: {began.get('message', '')}", EXIT_FAILED)
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
        _fail(f"{target!r} has no name in it: write module:name, such as app:app.", EXIT_USAGE)
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        _fail(f"{target!r} cannot be imported from {Path.cwd()}: {error}", EXIT_USAGE)
    except AttributeError:
        _fail(f"The module {module!r} has no {name!r}.", EXIT_USAGE)


def _manager_beside(target: str) -> RoomManager | None:
    """The one manager in the module of an application."""
    values = vars(import_module(target.partition(":")[0])).values()
    found = {id(value): value for value in values if isinstance(value, RoomManager)}
    if len(found) > 1:
        _fail(f"The module of {target!r} has {len(found)} managers: say --manager.", EXIT_USAGE)
    return next(iter(found.values()), None)


def _session(ctx: typer.Context, redis: str) -> Session:
    session: Session = ctx.obj
    session = session._replace(url=redis or session.url)
    session.check_url()
    return session


def _fail(text: str, code: int) -> Any:
    print_stderr(text)
    raise typer.Exit(code)
