"""What is entered by `async with` says so, when it is used in another way."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager, UsageError

BLOCK = r"async with rooms\.connect\(websocket\) as socket:"


@pytest.fixture
async def connection(rooms: RoomManager) -> Any:
    """What `rooms.connect` returns, to somebody without a type checker."""
    websocket = WebSocket({"type": "websocket"}, _never, _never)
    return rooms.connect(websocket)


async def test_a_connection_that_is_awaited_says_how_it_is_entered(connection: Any) -> None:
    with pytest.raises(UsageError, match=BLOCK):
        await connection


async def test_a_connection_in_a_plain_with_says_how_it_is_entered(connection: Any) -> None:
    with pytest.raises(UsageError, match=BLOCK), connection:
        pass


async def _never(*_: Any) -> Any:
    raise AssertionError("nobody is to read or write")
