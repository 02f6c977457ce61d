"""What comes in some turns of the event loop is one call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms.adapters.presence import Entry
from fastapi_rooms.presence.host import Name
from fastapi_rooms.presence.turns import TURNS, CallInTurns
from tests.unit.presence.host import Keeping


async def test_it_is_called_once_for_all_and_anew_for_what_comes_later() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            turns.schedule()

    turns = CallInTurns(call)
    for _ in range(TURNS + 1):
        turns.schedule()
        assert calls == 0
        await asyncio.sleep(0)
    assert calls == 1
    for _ in range(2 * TURNS):
        await asyncio.sleep(0)
    assert calls == 2, "what comes as it is called is for another"


async def test_rooms_that_are_entered_in_successive_turns_are_told_of_together(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keeping.keeper.enter(Name("/", "warm"), [Entry("0", "ann")])
    changes, change_rooms = list[int](), keeping.carrier.change_rooms

    async def counted(lease: Any, some: Any, done: Any) -> None:
        changes.append(len(some))
        await change_rooms(lease, some, done)

    monkeypatch.setattr(keeping.carrier, "change_rooms", counted)
    told = []
    for number in range(TURNS):
        told.append(keeping.keeper.enter(Name("/", f"room {number}"), [Entry(str(number), "ann")]))
        await asyncio.sleep(0)
    await asyncio.gather(*told)
    assert changes == [TURNS]
