"""The command line: at a terminal, as a person has it, and as a program reads it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from fastapi_rooms import Listener
from fastapi_rooms.cli.app import app
from fastapi_rooms.namespace import Namespace

ROOT = Path(__file__).parents[2]


class Output(NamedTuple):
    """What a command has written, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def run(*arguments: str, url: str = "", given: str = "") -> Output:
    """Run a command as a program does that reads its output."""
    environment = {"ROOMS_URL": url} if url else {"ROOMS_URL": None}
    runner = CliRunner()
    result = await asyncio.to_thread(
        lambda: runner.invoke(
            app, arguments, input=given, env=environment, prog_name="fastapi-rooms"
        )
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Output(result.exit_code, result.stdout, result.stderr)


async def findings(url: str, *arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """What `doctor` finds: its exit code, and the first finding of each subject."""
    done = await run("doctor", *arguments, url=url)
    found: dict[str, dict[str, str]] = {}
    for finding in done.json:
        found.setdefault(finding["subject"], finding)
    return done.code, found


async def tailing(*arguments: str, url: str) -> asyncio.Task[Output]:
    """Have `tail` run as a program has it, and return when it listens.

    That is a moment after Redis says that it is subscribed: what comes between is not for it.
    """
    loop, listens, listen = asyncio.get_running_loop(), asyncio.Event(), Namespace.listen

    @asynccontextmanager
    async def listening(*rooms: Any, **options: Any) -> AsyncIterator[Listener]:
        async with listen(*rooms, **options) as listener:
            loop.call_soon_threadsafe(listens.set)
            yield listener

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Namespace, "listen", listening)
        return await _begun(run("tail", *arguments, url=url), listens)


async def tailing_at_a_terminal(*arguments: str, url: str) -> asyncio.Task[Output]:
    """Have `tail` run at a terminal, and return when it says that it listens."""
    loop, listens = asyncio.get_running_loop(), asyncio.Event()
    says = partial(loop.call_soon_threadsafe, listens.set)
    running = asyncio.to_thread(_at_a_terminal, ("tail", *arguments), url, "", says)
    return await _begun(running, listens)


async def _begun(
    running: Coroutine[Any, Any, Output], listens: asyncio.Event
) -> asyncio.Task[Output]:
    """The command, which goes on, once it listens."""
    command, began = asyncio.create_task(running), asyncio.create_task(listens.wait())
    await asyncio.wait((command, began), return_when=asyncio.FIRST_COMPLETED)
    began.cancel()
    return command


async def at_a_terminal(*arguments: str, url: str, typed: str = "") -> Output:
    """Run a command in a process of its own, at a terminal of 80 columns."""
    return await asyncio.to_thread(_at_a_terminal, arguments, url, typed)


def _at_a_terminal(
    arguments: tuple[str, ...], url: str, typed: str, listens: Callable[[], object] = int
) -> Output:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastapi_rooms.cli", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env={
            **os.environ,
            "ROOMS_URL": url,
            "COLUMNS": "80",
            "TERM": "dumb",
            "PYTHONPATH": str(ROOT),
        },
        text=True,
        start_new_session=True,
    )
    os.close(terminal)
    os.write(controller, typed.encode())
    overdue = threading.Timer(60, process.kill)
    overdue.start()
    assert process.stderr is not None
    err = ""
    with process, process.stderr:
        for line in process.stderr:
            err += line
            if "listening to" in line:
                listens()
    overdue.cancel()
    shown = b""
    with suppress(OSError):  # so Linux says that the other end is closed
        while more := os.read(controller, 65536):
            shown += more
    os.close(controller)
    return Output(process.returncode, shown.decode().replace("\r\n", "\n"), err)


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command as a terminal does, and end it whatever happens in the block.

    What Ctrl+C does to it is not what it does to us: a shell has what it runs in the background
    ignore SIGINT, and Python leaves that as it is.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fastapi_rooms.cli", *arguments),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
