"""Waiting for a condition: what a test does where it would be tempted to sleep."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds after which a test is wrong rather than slow; a busy machine must not make it fail."""

_LONGEST_PAUSE = 0.02


@overload
async def eventually(
    condition: Callable[[], Awaitable[T]], timeout: float = TIMEOUT, *, what: str = ""
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T], timeout: float = TIMEOUT, *, what: str = ""
) -> T: ...


async def eventually(
    condition: Callable[[], T | Awaitable[T]], timeout: float = TIMEOUT, *, what: str = ""
) -> T:
    """Ask until the answer is true, and return it.

        await eventually(lambda: rooms.health.ready)
        await eventually(lambda: len(rooms.sids) == 3, what="all three are in")

    Args:
        condition: called again and again; plain or async.
        timeout: seconds to go on asking.
        what: what is waited for, to be read in the failure.

    Raises:
        AssertionError: the answer was still not true when the time was over.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    pause = 0.0
    while True:
        answer = condition()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if loop.time() > deadline:
            said = f"the last answer was {value!r}"
            raise AssertionError(f"Not within {timeout} s: {what or condition}; {said}")
        await asyncio.sleep(pause)
        pause = min(pause * 2 + 0.0005, _LONGEST_PAUSE)
