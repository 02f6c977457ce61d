"""Keeping a link open."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import pytest

from fastapi_rooms.adapters.redis.link import Link
from fastapi_rooms.adapters.redis.supervisor import supervise


class Stubborn:
    """Opens nothing, and swallows the first cancellation, as `asyncio.wait_for` may."""

    def __init__(self) -> None:
        self.opening = asyncio.Event()
        self.attempts = 0

    async def open(self) -> Link:
        self.attempts += 1
        self.opening.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            raise ConnectionError("somebody else's trouble") from None
        raise AssertionError

    def link_up(self, link: Link) -> NoReturn:
        raise AssertionError

    def link_down(self, reason: str, *, refused: bool = False) -> None:
        assert reason == "somebody else's trouble"


async def test_a_cancellation_that_opening_swallows_ends_it_all_the_same() -> None:
    user = Stubborn()
    task = asyncio.create_task(supervise(user))
    await user.opening.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 5)
    assert task.cancelled()
    assert user.attempts == 1
