"""Clients that come back at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms.client import connection, socket
from fastapi_rooms.testing import eventually


@pytest.fixture(autouse=True)
def draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the longest delay, which is a second, a hundredth; and what else is waited for."""
    monkeypatch.setattr(socket, "draw", lambda: 0.01)
    monkeypatch.setattr(socket, "HELLO_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "CLOSE_TIMEOUT", 60.0)  # a test that needs it hangs


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """No task outlives a client."""
    before: set[asyncio.Task[Any] | None] = {*asyncio.all_tasks()}
    yield
    before.add(asyncio.current_task())
    await eventually(lambda: not asyncio.all_tasks() - before)
