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
    """Tell systemd once it is ready, and keep a file as long as it is.

    The block is as long as it serves. Raises `OSError` if there can be no such file.
    """
    path = Path(file) if file else None
    if path is not None:
        path.unlink(missing_ok=True)  # of one that was killed
        path.parent.stat()
    telling = asyncio.create_task(_tell(is_ready, path))
    try:
        yield
    finally:
        telling.cancel()
        notify("STOPPING=1")
        _show(path, ready=False)


async def _tell(is_ready: Callable[[], bool], path: Path | None) -> None:
    is_told = False
    while True:
        ready = is_ready()
        if ready and not is_told:
            is_told = True
            notify("READY=1")
        _show(path, ready=ready)
        await asyncio.sleep(EVERY)


def _show(path: Path | None, *, ready: bool) -> None:
    if path is None:
        return
    with suppress(OSError):
        if ready:
            path.touch()
        else:
            path.unlink(missing_ok=True)
