"""What is done to all rooms that remember, some in each turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fastapi_rooms import Outage, RoomManager, concurrency
from fastapi_rooms.history import logs as logs_module
from fastapi_rooms.testing import eventually

ROOMS = [f"chat-{number}" for number in range(5)]


@pytest.fixture
async def rooms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RoomManager]:
    """A manager that listens to all of them, and does one thing in each turn."""
    manager = RoomManager()
    manager.history("chat-*")
    async with manager, manager.listen(*ROOMS):
        monkeypatch.setattr(concurrency, "SLICE", 1)
        yield manager


def lose(rooms: RoomManager) -> Any:
    """Messages to all of them may have been missed; returns their logs."""
    logs = rooms._here.recovery.logs
    channels = frozenset(entry.key.channel for entry in logs._entries.values())
    rooms._runtime.run.gap(Outage(time.time() - 1, time.time(), channels))
    return logs


async def test_all_that_may_have_missed_something_are_read_again_part_by_part(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = rooms._runtime.adapter
    read_since, read = adapter.read_since, []

    async def reading(key: Any, position: Any) -> Any:
        read.append(key.name)
        return await read_since(key, position)

    monkeypatch.setattr(adapter, "read_since", reading)
    logs = lose(rooms)
    turns = 0
    while logs._doubts:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= len(ROOMS)
    await eventually(lambda: len(read) == len(ROOMS))
    assert read == [f"/#{room}".encode() for room in ROOMS]


async def test_who_joins_one_before_its_turn_knows_it_up_to_its_end(rooms: RoomManager) -> None:
    logs = lose(rooms)
    entry = logs._entries[ROOMS[-1]]
    assert not entry.log.needs_read
    opening = asyncio.ensure_future(logs.open(ROOMS[-1]))
    await asyncio.sleep(0)
    assert entry.reading is not None
    await opening
    logs.close(ROOMS[-1])


async def test_they_are_compared_part_by_part_and_one_comparison_at_a_time(
    rooms: RoomManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter: Any = rooms._runtime.adapter
    tops, asked = adapter.tops, []

    async def asking(keys: Any) -> Any:
        asked.append([key.name for key in keys])
        return await tops(keys)

    monkeypatch.setattr(adapter, "tops", asking)
    monkeypatch.setattr(logs_module, "COMPARE", 3600)
    logs: Any = rooms._here.recovery.logs
    for _ in range(2):  # the second while the first goes on
        assert logs._timer is not None
        logs._timer.cancel()
        logs._compare_soon()
    await eventually(logs._comparison.done)
    assert asked == [[f"/#{room}".encode()] for room in ROOMS]
