"""Backends in processes of their own that kill themselves, by SIGKILL, at a step of an opening."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from typing import Any
from unittest.mock import patch

from fastapi_rooms import Backend, RoomManager
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire.gateway import Frame, FrameKind
from tests.integration.gateway.apps import application

STEPS = ("accept", "enter", "join", "greet")
"""What the endpoint of a chat says first to its edge, each in a frame of its own."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(backend: Backend, moment: str) -> None:
    """Have it die as it is to open an endpoint, or before or after it has said a step."""
    if moment == "asked":
        patch.object(backend, "_open", lambda *_: die()).start()
        return
    when, fatal = moment.split()
    frames, steps = backend.frames, iter(STEPS)
    publish = frames.publish

    async def say_last(to: str | None, frame: Frame) -> None:
        await publish(to, frame)
        die()

    def say(to: str | None, frame: Frame) -> Awaitable[Any]:
        if frame.kind is FrameKind.BEAT or next(steps) != fatal:
            return publish(to, frame)
        if when == "before":
            die()
        return asyncio.ensure_future(say_last(to, frame))

    patch.object(frames, "publish", say).start()


async def run(url: str, prefix: str, moment: str) -> None:
    rooms = RoomManager(url, prefix=prefix)
    async with Backend(application(rooms), name="app", adapter=rooms) as backend:
        dies_at(backend, moment)
        await asyncio.Event().wait()


def main(*arguments: str) -> None:
    asyncio.run(run(*arguments))


@contextmanager
def dying_backend(*arguments: str) -> Iterator[ForkServerProcess]:
    """Start one; it is imported once for all."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=main, args=arguments)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


async def dead(process: ForkServerProcess) -> None:
    """Wait until it is."""
    await eventually(lambda: process.exitcode is not None, what="it has died")
    assert process.exitcode == -signal.SIGKILL
