"""What every command needs: the options that all have, a manager that only looks, exit codes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
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
from fastapi_rooms.cli.output import complain

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

SHORTEST, LONGEST = 3.0, 3600.0
"""Seconds between heartbeats, which are as long as a request may take where that is in between: in
three of them a worker that hangs is taken for dead, and only the log, which nobody sees, says so.
"""

T = TypeVar("T")

COMMON = ("--url", "--prefix", "--namespace", "--timeout")


class Group(TyperGroup):
    """Takes the options that all commands have before the command and after it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put those options first, up to a `--` that ends all options."""
        end = args.index("--") if "--" in args else len(args)
        common: list[str] = []
        others: list[str] = []
        rest = iter(args[:end])
        for arg in rest:
            if arg in COMMON:
                common += [arg, *([value] if (value := next(rest, None)) is not None else [])]
            elif arg.startswith(tuple(f"{name}=" for name in COMMON)):
                common.append(arg)
            else:
                others.append(arg)
        return super().parse_args(ctx, [*common, *others, *args[end:]])


class Session(NamedTuple):
    """The options that all commands have."""

    url: str
    prefix: str
    namespace: str
    timeout: float

    def manager(self) -> RoomManager:
        """A manager that looks and asks, and is no worker. Raises `ConfigurationError`."""
        self.check_url()
        return RoomManager(
            self.url,
            prefix=self.prefix,
            join_timeout=self.timeout,
            publish_timeout=self.timeout,
            request_timeout=self.timeout,
            heartbeat=min(max(self.timeout, SHORTEST), LONGEST),
            observer=True,
        )

    def emitter(self) -> AsyncEmitter:
        """An emitter. Raises `ConfigurationError`."""
        self.check_url()
        return AsyncEmitter(self.url, prefix=self.prefix, timeout=self.timeout)

    @asynccontextmanager
    async def rooms(self) -> AsyncIterator[Namespace]:
        """The namespace, for as long as the block runs."""
        manager = self.manager()
        rooms = manager.of(self.namespace)
        async with manager:
            check_connected(manager)
            yield rooms

    def check_url(self) -> None:
        """Raise `UsageError` unless there is a URL that leads out of this process."""
        if not self.url:
            raise UsageError(
                "Which Redis? Say --url redis://localhost:6379, or set ROOMS_URL in the "
                "environment, as your application does."
            )
        if self.url.startswith("memory://"):
            raise UsageError(
                "Rooms in memory cannot be reached from another process: give the URL of a Redis."
            )


def check_connected(manager: RoomManager) -> None:
    """Raise `AdapterUnavailable` if there is no connection."""
    health = manager.health
    if not health.connected:
        raise AdapterUnavailable(health.reason or "Redis was not reached in time")


def run(work: Coroutine[Any, Any, T], *, endless: bool = False) -> T:
    """Run a command, and turn what it raises into a sentence and an exit code.

    One that is `endless` is meant to be ended by Ctrl+C.
    """
    logging.getLogger("fastapi_rooms").addHandler(logging.NullHandler())  # we say it ourselves
    try:
        return asyncio.run(work)
    except UsageError as error:
        complain(str(error))
        raise typer.Exit(WRONG_USAGE) from None
    except RequestTimeout as error:
        silent = [*sorted(error.silent), *["not known by id"] * error.unidentified]
        complain(f"{len(silent)} workers did not answer: {', '.join(silent)}")
        raise typer.Exit(FAILED) from None
    except (RequestError, RoomsError) as error:
        complain(str(error))
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(0 if endless else INTERRUPTED) from None
