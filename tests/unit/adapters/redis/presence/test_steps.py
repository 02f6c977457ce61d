"""Changes of a room that take several steps, of which one fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.presence import (
    Changed,
    Entry,
    Lease,
    RoomChange,
    RoomKey,
    Terms,
    UserEvent,
)
from fastapi_rooms.adapters.redis.presence import lease_script
from fastapi_rooms.adapters.redis.presence.presence import RoomsPresence
from fastapi_rooms.adapters.redis.presence.reader import Answered, Part
from fastapi_rooms.adapters.redis.presence.room_script import MAX_AT_ONCE, PLAIN

ROOM, LEASE, TERMS = RoomKey(b"/#tea", b"channel"), Lease("0a", 1), Terms(0)
SOCKETS = [Entry(f"{number}", f"user {number}") for number in range(2 * MAX_AT_ONCE)]
AWAY = AdapterUnavailable("It is away.")


class InSteps(RoomsPresence):
    """Answers each step as the test says; sets are written."""

    def __init__(self, *steps: Any, looks: Sequence[int] = ()) -> None:
        super().__init__("rooms", PLAIN)
        self.steps = [*steps]
        self.looks = [*looks]
        """Whether somebody is there, each time that it is looked for."""
        self.written: list[str] = []
        """What is done to the sets that lead to the room."""

    async def _ask(self, *stages: Sequence[Part]) -> list[list[Any]]:
        return [self._answer(part) for stage in stages for part in stage]

    async def _ask_each(self, parts: Sequence[Part], answered: Answered) -> None:
        for at, part in enumerate(parts):
            try:
                answered(at, self._answer(part))
            except AdapterUnavailable as error:
                answered(at, error)

    def _answer(self, part: Part) -> list[Any]:
        if b"HEXISTS" in part.data:
            return [self.looks.pop(0)]
        if b"EVAL" not in part.data:
            self.written += [verb for verb in ("SADD", "SREM") if verb.encode() in part.data]
            return [1] * part.commands
        step = self.steps.pop(0)
        if isinstance(step, AdapterUnavailable):
            raise step
        return [step]


def joined(version: int, refusal: bytes = b"") -> list[Any]:
    return [0, version, -1, 1, refusal, b"", b"join", b"ann", version]


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
    "step", [AWAY, hiredis.ReplyError("OOM no memory"), [0, 1, -1, 1, b"NOPERM", b""]]
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


@pytest.mark.parametrize(
    ("looks", "written"),
    [
        ([0], ["SREM"]),  # nobody has come
        ([1, 1], ["SREM", "SADD"]),  # come meanwhile, and there
        ([1, 0, 0], ["SREM", "SADD", "SREM"]),  # and gone again before they were put back
        ([1, 0, 1, 1], ["SREM", "SADD", "SREM", "SADD"]),
    ],
)
async def test_who_comes_and_goes_as_their_room_is_forgotten_leaves_the_set_as_they_are(
    looks: list[int], written: list[str]
) -> None:
    left = [0, 2, -1, 0, b"", b"", b"leave", b"ann", 2]
    presence = InSteps(left, looks=looks)
    await presence.sweep(ROOM, TERMS)
    assert presence.written == written
    assert not presence.looks


async def test_of_rooms_that_change_together_each_is_told_of_when_it_is_answered() -> None:
    rooms = [RoomKey(b"/#%d" % number, b"channel") for number in range(3)]
    changes = [RoomChange(room, TERMS, SOCKETS[:1]) for room in rooms]
    changes.append(RoomChange(ROOM, TERMS, SOCKETS))  # in several steps, of which one fails
    told: dict[int, Changed | AdapterUnavailable] = {}
    steps = InSteps(AWAY, joined(1), joined(2), joined(3), hiredis.ReplyError("OOM no memory"))
    await steps.change_rooms(LEASE, changes, told.__setitem__)
    events = {
        at: [each.version for each in it.events]
        for at, it in told.items()
        if not isinstance(it, AdapterUnavailable)
    }
    assert len(told) == 4
    assert sorted(version for versions in events.values() for version in versions) == [1, 2, 3]
    assert AWAY in told.values()


async def test_a_script_that_is_forgotten_again_and_again_is_given_up() -> None:
    class Forgetful(InSteps):
        def _answer(self, part: Part) -> list[Any]:
            return [hiredis.ReplyError("NOSCRIPT No matching script.")]

    with pytest.raises(AdapterUnavailable, match="forgets"):
        await Forgetful().change(ROOM, LEASE, TERMS, enter=SOCKETS)


@pytest.mark.parametrize(
    "step", [AWAY, hiredis.ReplyError("OOM no memory"), [0, 1, -1, 1, b"", b"", b"came", b"ann", 1]]
)
async def test_a_change_that_fails_or_makes_no_sense_is_told_of_its_room_alone(step: Any) -> None:
    rooms = [RoomKey(b"/#%d" % number, b"channel") for number in range(2)]
    told: dict[int, Changed | AdapterUnavailable] = {}
    changes = [RoomChange(room, TERMS, SOCKETS[:1]) for room in rooms]
    await InSteps(step, joined(1)).change_rooms(LEASE, changes, told.__setitem__)
    assert isinstance(told[0], AdapterUnavailable)
    assert isinstance(told[1], Changed)


def test_a_lease_that_redis_refuses_to_renew_is_an_error() -> None:
    with pytest.raises(AdapterUnavailable, match="refused to renew"):
        lease_script.decode(hiredis.ReplyError("OOM no memory"), LEASE)
