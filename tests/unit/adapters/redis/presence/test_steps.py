"""Changes of a room that take several steps, of which one fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.presence import Entry, Lease, RoomKey, Terms, UserEvent
from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Part
from fastapi_rooms.adapters.redis.presence.room_script import MAX_AT_ONCE, PLAIN

ROOM, LEASE, TERMS = RoomKey(b"/#tea", b"channel"), Lease("0a", 1), Terms(0)
SOCKETS = [Entry(f"{number}", f"user {number}") for number in range(2 * MAX_AT_ONCE)]
AWAY = AdapterUnavailable("It is away.")


class InSteps(RoomsPresence):
    """Answers each step as the test says; sets are written."""

    def __init__(self, *steps: Any) -> None:
        super().__init__("rooms", PLAIN)
        self.steps = [*steps]

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        return [self._answer(part) for stage in stages for part in stage]

    def _answer(self, part: Part) -> list[Any]:
        if b"EVAL" not in part.data:
            return [1] * part.commands
        step = self.steps.pop(0)
        if isinstance(step, AdapterUnavailable):
            raise step
        return [step]


def joined(version: int, refusal: bytes = b"") -> list[Any]:
    return [0, version, -1, 1, refusal, b"join", b"ann", version]


async def test_what_the_steps_before_have_made_is_known_when_one_fails() -> None:
    changed = await InSteps(joined(1), AWAY).change(ROOM, LEASE, TERMS, enter=SOCKETS)
    assert changed.events == (UserEvent("join", "ann", 1),)
    assert changed.failure is AWAY


async def test_the_first_step_that_fails_is_the_last() -> None:
    presence = InSteps(joined(1, b"NOPERM"), joined(2))
    changed = await presence.change(ROOM, LEASE, TERMS, enter=SOCKETS)
    assert changed.events == (UserEvent("join", "ann", 1),)
    assert "NOPERM" in str(changed.failure)
    assert len(presence.steps) == 1


@pytest.mark.parametrize(
    "step", [AWAY, hiredis.ReplyError("OOM no memory"), [0, 1, -1, 1, b"NOPERM"]]
)
async def test_a_failure_that_has_made_nothing_is_raised(step: Any) -> None:
    with pytest.raises(AdapterUnavailable):
        await InSteps(step).change(ROOM, LEASE, TERMS, enter=SOCKETS)


async def test_what_a_sync_has_made_is_known_when_its_repair_fails() -> None:
    class Broken(InSteps):
        async def sums(self, lease: Lease, rooms: Sequence[RoomKey]) -> Any:
            raise AWAY

        async def _own(self, room: RoomKey, lease: Lease) -> Any:
            for none in list[Any]():
                yield none

    changed = await Broken(joined(1)).sync(ROOM, LEASE, TERMS, SOCKETS[:1])
    assert changed.events == (UserEvent("join", "ann", 1),)
    assert changed.failure is AWAY
