"""Frames that nobody waits for."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.testing import eventually


async def test_what_fails_is_in_nobodys_way() -> None:
    done: list[int] = []

    async def publish(number: int) -> None:
        await asyncio.sleep(0)
        if number == 1:
            raise OSError("away")
        done.append(number)

    for number in range(3):
        post(publish(number))
    await eventually(lambda: done == [0, 2])
    post(publish(3))
    await eventually(lambda: done == [0, 2, 3])


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_an_event_loop_that_ends_leaves_nothing_and_the_next_begins_anew(turns: int) -> None:
    """A coroutine that is never awaited is a warning, and so a failure here."""
    done: list[str] = []

    async def never() -> None:
        await asyncio.Event().wait()

    async def at_once() -> None:
        done.append("done")

    async def ending() -> None:
        post(never())
        post(never())
        for _ in range(turns):
            await asyncio.sleep(0)

    async def beginning() -> None:
        post(at_once())
        await eventually(lambda: done == ["done"])

    asyncio.run(ending())
    asyncio.run(beginning())
