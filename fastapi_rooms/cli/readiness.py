"""Tells those who started a process without a port that it is ready: systemd, and a file."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

EVERY = 0.5
"""Seconds between looks at whether it is ready still."""


def notify(state: str) -> None:
    """Tell systemd, if it wants to be told: see sd_notify(3)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to, suppress(OSError):
        to.connect(address)
        to.send(state.encode())


@asynccontextmanager
async def readiness(is_ready: Callable[[], bool], file: str) -> AsyncIterator[None]:
    """Tell systemd that it has started, and keep a file as long as it is ready.

    The block is as long as it serves. Raises `OSError` if there can be no such file.
    """
    path = Path(file) if file else None
    if path is not None:
        path.unlink(missing_ok=True)  # of one that was killed
        path.parent.stat()
    keeping = asyncio.create_task(_keep(is_ready, path)) if path is not None else None
    notify("READY=1")
    try:
        yield
    finally:
        notify("STOPPING=1")
        if keeping is not None and path is not None:
            keeping.cancel()
            with suppress(OSError):
                path.unlink(missing_ok=True)


async def _keep(is_ready: Callable[[], bool], path: Path) -> None:
    while True:
        _show(path, ready=is_ready())
        await asyncio.sleep(EVERY)


def _show(path: Path, *, ready: bool) -> None:
    with suppress(OSError):
        if ready:
            path.touch()
        else:
            path.unlink(missing_ok=True)
