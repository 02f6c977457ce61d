"""How those end who wait for what another does."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.presence.failures import end_as


@pytest.mark.parametrize("error", [None, AdapterUnavailable("away"), "cancelled"])
async def test_one_future_ends_as_another_has(error: Exception | str | None) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    waiting: asyncio.Future[None] = loop.create_future()
    if isinstance(error, Exception):
        done.set_exception(error)
    elif error is None:
        done.set_result(None)
    else:
        done.cancel()
    end_as(waiting, done)
    assert waiting.cancelled() is (error == "cancelled")
    if not waiting.cancelled():
        assert waiting.exception() is error is done.exception()
