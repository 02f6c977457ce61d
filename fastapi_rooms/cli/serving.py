"""What the commands that serve have in common."""

from __future__ import annotations

import signal
from typing import Annotated, NoReturn

import typer

from fastapi_rooms import UsageError
from fastapi_rooms.cli.output import print_stderr
from fastapi_rooms.cli.session import EXIT_USAGE, Session

RedisOption = Annotated[
    str, typer.Option("--redis", help="The Redis, as a URL; the same as --url.")
]


def session_of(ctx: typer.Context, redis: str) -> Session:
    """The common options, with the URL of `--redis` where that is given."""
    session: Session = ctx.obj
    session = session._replace(url=redis or session.url)
    try:
        session.check_url()
    except UsageError as error:
        fail(str(error), EXIT_USAGE)
    return session


def ends_by_hangup() -> bool:
    """Whether SIGHUP is to end the command, as SIGTERM does: `nohup` has it ignored."""
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def fail(text: str, code: int) -> NoReturn:
    """End the command, and say why."""
    print_stderr(text)
    raise typer.Exit(code)
