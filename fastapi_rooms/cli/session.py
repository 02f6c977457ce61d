"""What every command needs: the common options, an observing manager, and exit codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import typer
from typer.core import TyperGroup

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    Namespace,
    RequestError,
    RequestTimeout,
    RoomManager,
    RoomsError,
    UsageError,
)
from fastapi_rooms.adapters import (
    SCHEMES,
    Carrier,
    Declaration,
    HistoryDeclaration,
    canonical_url,
    read_declarations,
)
from fastapi_rooms.cli.output import plural, print_stderr

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
"""As click and shells have them; 130 is 128 + SIGINT."""

MIN_HEARTBEAT, MAX_HEARTBEAT = 3.0, 3600.0
"""Bounds, in seconds, of the heartbeat interval, which otherwise equals the timeout of requests.

A worker that misses three heartbeats is considered dead, and is then no longer among those that did
not answer. So three intervals must be longer than a request may take.
"""

_RABBITMQ = {scheme.name for scheme in SCHEMES if scheme.carrier is Carrier.RABBITMQ}

T = TypeVar("T")

COMMON_OPTIONS = ("--url", "--prefix", "--namespace", "--timeout")


class CommonOptionsGroup(TyperGroup):
    """Accepts the common options before and after the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the common options to the front, except those after `--`."""
        end = args.index("--") if "--" in args else len(args)
        common: list[str] = []
        others: list[str] = []
        rest = iter(args[:end])
        for arg in rest:
            if arg in COMMON_OPTIONS:
                common += [arg, *([value] if (value := next(rest, None)) is not None else [])]
            elif arg.startswith(tuple(f"{name}=" for name in COMMON_OPTIONS)):
                common.append(arg)
            else:
                others.append(arg)
        return super().parse_args(ctx, [*common, *others, *args[end:]])


class Session(NamedTuple):
    """The values of the common options, and how to connect with them."""

    url: str
    prefix: str
    namespace: str
    timeout: float

    def manager(self) -> RoomManager:
        """Create a manager that observes the workers without being one.

        Raises:
            UsageError: the options are invalid.
        """
        self.check_url()
        return RoomManager(
            self.url,
            prefix=self.prefix,
            join_timeout=self.timeout,
            publish_timeout=self.timeout,
            request_timeout=self.timeout,
            heartbeat=min(max(self.timeout, MIN_HEARTBEAT), MAX_HEARTBEAT),
            observer=True,
        )

    def emitter(self) -> AsyncEmitter:
        """Create an emitter.

        Raises:
            UsageError: the options are invalid.
        """
        self.check_url()
        return AsyncEmitter(self.url, prefix=self.prefix, timeout=self.timeout)

    @asynccontextmanager
    async def rooms(self, remembers: str | None = None) -> AsyncIterator[Namespace]:
        """Connect, and yield the namespace.

        Args:
            remembers: the name of a room whose history is wanted, as its workers have declared it.

        Raises:
            UsageError: the options are invalid, or the room has no history.
            AdapterUnavailable: the carrier could not be reached in time, or refuses.
        """
        manager = self.manager()
        rooms = manager.of(self.namespace)
        if remembers is not None:
            for declared in await self._declarations_for(rooms.name, remembers):
                rooms.history(declared.pattern, **declared.retention._asdict())
        async with manager:
            check_connected(manager)
            yield rooms

    async def declarations(self) -> list[Declaration]:
        """What rooms have, as the workers have declared it. Raises `AdapterUnavailable`."""
        self.check_url()
        if self.is_rabbitmq:
            return []  # it keeps no messages
        return await read_declarations(self.url, self.prefix, self.timeout)

    async def _declarations_for(self, namespace: str, room: str) -> list[HistoryDeclaration]:
        if self.is_rabbitmq:
            raise UsageError(
                "RabbitMQ keeps no messages. In memory and on Redis rooms can have a history: give "
                "the URL of a Redis, if the workers use one."
            )
        histories = [d for d in await self.declarations() if isinstance(d, HistoryDeclaration)]
        of_namespace = [d for d in histories if d.namespace == namespace]
        if not any(_matches(room, d.pattern) for d in of_namespace):
            raise UsageError(
                f"{room!r} has no history: no worker with the prefix {self.prefix!r} has declared "
                f"one for it in the namespace {namespace!r}."
            )
        return of_namespace

    def check_url(self) -> None:
        """Raise `UsageError` if there is no URL, or if it is `memory://`."""
        if not self.url.strip():
            forms = ", ".join(scheme.form for scheme in SCHEMES if scheme.emitters)
            raise UsageError(
                "No Redis URL, nor one of RabbitMQ: use --url, or set ROOMS_URL in the "
                f"environment, to one of {forms}"
            )
        if self.url.strip().lower().startswith("memory://"):
            raise UsageError(
                "Rooms in memory cannot be reached from another process: use the URL of a Redis "
                "or of a RabbitMQ."
            )

    @property
    def is_rabbitmq(self) -> bool:
        """Whether the URL leads to a RabbitMQ."""
        return self.url.strip().partition("://")[0].lower() in _RABBITMQ

    @property
    def carrier(self) -> str:
        """What the URL leads to, for people."""
        return "RabbitMQ" if self.is_rabbitmq else "Redis"

    @property
    def carrier_url(self) -> str:
        """The URL, in one spelling. Raises `UsageError`."""
        return self.url.strip() if self.is_rabbitmq else self.redis_url

    @property
    def redis_url(self) -> str:
        """The URL as redis-py reads it. Raises `UsageError`."""
        return canonical_url(self.url)

    @property
    def is_one_server(self) -> bool:
        """Whether the URL is that of one server, which a plain client can ask."""
        scheme = self.redis_url.partition("://")[0]
        return any(s.name == scheme and s.carrier is Carrier.REDIS for s in SCHEMES)


def _matches(room: str, pattern: str) -> bool:
    if pattern.endswith("*"):
        return room.startswith(pattern[:-1])
    return room == pattern


async def with_partial(answer: Awaitable[T]) -> tuple[T, RequestError | None]:
    """Await a result. If some workers fail, return the partial one, and the error."""
    try:
        return await answer, None
    except RequestError as error:
        return error.partial, error


def check_connected(manager: RoomManager) -> None:
    """Raise `AdapterUnavailable` if the manager is not connected."""
    health = manager.health
    if not health.connected:
        raise AdapterUnavailable(health.reason or "It was not reached in time")


def run(work: Coroutine[Any, Any, T], *, endless: bool = False) -> T:
    """Run a command; print its errors and exit with their code.

    With `endless`, Ctrl+C is the normal way to stop the command, and the exit code is 0.
    """
    logging.getLogger("fastapi_rooms").addHandler(logging.NullHandler())  # errors are printed here
    try:
        return asyncio.run(work)
    except UsageError as error:
        print_stderr(str(error))
        raise typer.Exit(EXIT_USAGE) from None
    except RequestTimeout as error:
        silent = [*sorted(error.silent), *["unidentified"] * error.unidentified]
        print_stderr(f"{plural(len(silent), 'worker')} did not answer: {', '.join(silent)}")
        raise typer.Exit(EXIT_FAILED) from None
    except (RequestError, RoomsError) as error:
        print_stderr(str(error))
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(0 if endless else EXIT_INTERRUPTED) from None
