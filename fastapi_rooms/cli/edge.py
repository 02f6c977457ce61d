"""The command `edge`: holds clients whose endpoints run in backends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Annotated

import typer

from fastapi_rooms import AllowedOrigins, ConfigurationError, Gateway, RoomManager
from fastapi_rooms.cli.serving import RedisOption, ends_by_hangup, fail, session_of
from fastapi_rooms.cli.session import EXIT_FAILED, EXIT_USAGE

EDGE = "FASTAPI_ROOMS_EDGE"
"""The environment variable by which the workers of an edge learn its options."""


class LogLevel(StrEnum):
    """What is logged at least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def edge_app() -> Gateway:
    """Make the ASGI application of a worker of `fastapi-rooms edge`."""
    options = json.loads(os.environ[EDGE])
    manager = RoomManager(options["url"], prefix=options["prefix"])
    origins = None
    if (allowed := options["origins"]) is not None:
        origins = AllowedOrigins(*allowed.pop("named"), **allowed)
    return Gateway(manager, origins=origins, **options["gateway"])


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
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="The origin of pages that may connect: https://chat.example.com. May be repeated."
        ),
    ] = None,
    same_host: Annotated[
        bool, typer.Option("--same-host", help="Pages of the edge's own host may connect.")
    ] = False,
    require_origin: Annotated[
        bool, typer.Option("--require-origin", help="Only pages may connect, and no programs.")
    ] = False,
    header: Annotated[
        list[str] | None,
        typer.Option(help="A request header that backends get, instead of all. May be repeated."),
    ] = None,
    max_clients: Annotated[
        int | None, typer.Option(help="How many clients each process holds.", min=1)
    ] = None,
    max_channels: Annotated[
        int, typer.Option(help="How many endpoints a client has over one connection.", min=1)
    ] = 100,
    max_message_bytes: Annotated[
        int, typer.Option(help="The longest message of a client.", min=1)
    ] = 16 * 1024 * 1024,
    health_path: Annotated[
        str | None, typer.Option(help="Where HTTP clients are told whether it is ready.")
    ] = None,
    proxy_headers: Annotated[
        bool,
        typer.Option(help="Whether to take clients' addresses from headers of a proxy."),
    ] = True,
    forwarded_allow_ips: Annotated[
        str | None,
        typer.Option(
            envvar="FORWARDED_ALLOW_IPS",
            help="The addresses of proxies to trust, with commas between; 127.0.0.1 by default.",
        ),
    ] = None,
    log_level: Annotated[
        LogLevel, typer.Option(help="What uvicorn logs: at info, every connection.")
    ] = LogLevel.INFO,
    ssl_certfile: Annotated[str | None, typer.Option(help="A certificate, for TLS.")] = None,
    ssl_keyfile: Annotated[str | None, typer.Option(help="Its key.")] = None,
) -> None:
    """Hold WebSocket clients, whose endpoints run in backends. Needs uvicorn.

    \b
    fastapi-rooms edge --redis redis://localhost:6379 --route /chat=chat --workers 2
    """
    session = session_of(ctx, redis)
    allowed = {
        "named": origin or [],
        "same_host": same_host or None,
        "without_origin": not require_origin,
    }
    options = {
        "url": session.url,
        "prefix": session.prefix,
        "origins": allowed if origin or same_host or require_origin else None,
        "gateway": {
            "routes": dict(_route(one) for one in route),
            "open_timeout": open_timeout,
            "reattach": reattach,
            "reattach_timeout": reattach_timeout,
            "headers": header or None,
            "max_clients": max_clients,
            "max_channels": max_channels,
            "max_message_bytes": max_message_bytes,
            "health_path": health_path,
        },
    }
    os.environ[EDGE] = json.dumps(options)
    try:
        edge_app()
    except ConfigurationError as error:
        fail(str(error), EXIT_USAGE)
    import uvicorn

    with _ends_with_its_signals(workers):
        uvicorn.run(
            "fastapi_rooms.cli.edge:edge_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            ws_max_size=max_message_bytes + 64,  # a channel's message says which it is for
            proxy_headers=proxy_headers,
            forwarded_allow_ips=forwarded_allow_ips,
            log_level=log_level.value,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
        )


@contextmanager
def _ends_with_its_signals(workers: int) -> Iterator[None]:
    """End with 0 where a signal ends the block, and with 1 where it fails.

    uvicorn raises the signal that ended it once more, which would be the end with another status.
    With several workers it returns alike when it was told to end and when they cannot start; so the
    signals that came are noted, whoever handles them.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    if workers == 1 and ends_by_hangup():  # with several, uvicorn replaces them
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    earlier = signal.set_wakeup_fd(writing) if workers > 1 else None
    try:
        with suppress(KeyboardInterrupt):
            yield
    except SystemExit as error:
        raise typer.Exit(EXIT_FAILED if error.code else 0) from None
    except OSError as error:
        fail(str(error), EXIT_FAILED)
    finally:
        if earlier is not None:
            signal.set_wakeup_fd(earlier)
        came = b""
        with suppress(BlockingIOError):
            came = os.read(reading, 4096)
        os.close(reading)
        os.close(writing)
    if workers > 1 and not set(came) & {signal.SIGINT, signal.SIGTERM}:
        raise typer.Exit(EXIT_FAILED)


def _route(text: str) -> tuple[str, str]:
    path, equals, name = text.partition("=")
    if not equals:
        fail(f"The route {text!r} has no name of a backend: write /chat=chat.", EXIT_USAGE)
    return path, name
