"""Adapters that are not started, which is an error that says so, whatever they are asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fastapi_rooms import NotStarted, RedisAdapter, RedisClusterAdapter
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.adapters.presence import Lease

ROOM = RoomKey(b"/#tea", b"channel")

ADAPTERS = [lambda: RedisAdapter("redis://h"), lambda: RedisClusterAdapter("redis+cluster://h")]

ASKED: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "publish": lambda adapter: adapter.publish(b"channel", b"data"),
    "subscribe": lambda adapter: adapter.subscribe([b"channel"]),
    "append": lambda adapter: adapter.append(ROOM, b"data", 1, Retention(1, 1.0)),
    "tops": lambda adapter: adapter.tops([ROOM]),
    "read": lambda adapter: adapter.read(ROOM),
    "declared": lambda adapter: adapter.declared(),
    "beat": lambda adapter: adapter.beat(Lease("0a" * 8, 0), 1.0, reaps=True),
}


@pytest.mark.parametrize("make", ADAPTERS, ids=["redis", "cluster"])
@pytest.mark.parametrize("asked", ASKED)
async def test_what_is_asked_of_one_that_is_not_started_raises_that(
    make: Callable[[], Any], asked: str
) -> None:
    with pytest.raises(NotStarted):
        await ASKED[asked](make())
