"""In which order a cluster is told what leads to rooms, and where it is looked for rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis
import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.presence import Changed, Entry, Lease, RoomChange, RoomKey, Terms
from fastapi_rooms.adapters.redis.presence.keys import worker_key
from fastapi_rooms.adapters.redis.presence.reader import Answered, Part
from fastapi_rooms.adapters.redis.sharded.presence import ClusterPresence
from fastapi_rooms.adapters.redis.sharded.slot_lanes import SlotLanes
from fastapi_rooms.adapters.redis.sharded.slot_tags import slot_tags
from fastapi_rooms.adapters.redis.sharded.slots import SLOTS, slot_of
from fastapi_rooms.testing import eventually

ROOM, LEASE, TERMS = RoomKey(b"/#tea", b"channel"), Lease("0a" * 8, 1), Terms(0)
ANN = Entry("1", "ann")
AWAY = AdapterUnavailable("It is away.")

JOINED = [0, 2, -1, 1, b"", b"", b"join", b"ann", 2]
LEFT = [0, 3, -1, 0, b"", b"", b"leave", b"ann", 3]


class Nodes(ClusterPresence):
    """Nodes that answer as a test says; sets are written when it lets them be."""

    def __init__(self, *steps: Any) -> None:
        super().__init__(SlotLanes(None, timeout=5, refresh=lambda: None), "rooms")  # type: ignore[arg-type]  # no messages
        self.steps = [*steps]
        self.done: list[str] = []
        self.open = asyncio.Event()
        self.has: set[bytes] = set()
        """Keys that there are."""
        self.away: set[bytes] = set()
        """Keys about which nobody answers."""

    async def _ask_each(self, parts: Sequence[Part], answered: Answered) -> None:
        for at, part in enumerate(parts):
            reader = hiredis.Reader()
            reader.feed(part.data)
            verb = reader.gets()[0].decode()
            if verb == "SADD":
                await self.open.wait()
            if verb != "EXISTS":
                self.done.append(verb)
            answered(at, self._answer(verb, part))

    def _answer(self, verb: str, part: Part) -> list[Any] | AdapterUnavailable:
        if part.key in self.away:
            return AWAY
        if verb == "EVALSHA":
            return [self.steps.pop(0)]
        return [int(part.key in self.has)] * part.commands


async def test_what_is_removed_waits_for_what_is_being_added_for_an_earlier_join() -> None:
    nodes, told = Nodes(JOINED, LEFT), list[Changed | AdapterUnavailable]()

    def change(enter: Sequence[Entry], leave: Sequence[str]) -> asyncio.Task[None]:
        changes = [RoomChange(ROOM, TERMS, enter, leave)]
        changing = nodes.change_rooms(LEASE, changes, lambda _, outcome: told.append(outcome))
        return asyncio.create_task(changing)

    entering = change([ANN], [])
    await eventually(lambda: len(told) == 1)
    leaving = change([], [ANN.sid])
    await eventually(lambda: len(told) == 2)
    for _ in range(10):
        await asyncio.sleep(0)
    assert nodes.done == ["EVALSHA", "EVALSHA"], "both are told, and nothing has been written"
    nodes.open.set()
    await asyncio.gather(entering, leaving)
    assert nodes.done[2:] == ["SADD"] * 2 + ["SREM"] * 2 + ["HEXISTS"] * 2
    assert not nodes._adding


async def test_a_worker_that_ends_as_it_adds_keeps_nobody_waiting() -> None:
    nodes, told = Nodes(JOINED, LEFT), list[Changed | AdapterUnavailable]()
    changes = [RoomChange(ROOM, TERMS, [ANN])]
    entering = nodes.change_rooms(LEASE, changes, lambda _, outcome: told.append(outcome))
    task = asyncio.create_task(entering)
    await eventually(lambda: told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await nodes.change(ROOM, LEASE, TERMS, leave=[ANN.sid])
    assert nodes.done[2:] == ["SREM"] * 2 + ["HEXISTS"] * 2
    assert not nodes._adding


async def test_who_reaps_looks_into_every_slot_and_buries_nobody_before_it_has() -> None:
    nodes = Nodes()
    keys = [worker_key(b"rooms", LEASE, tag) for tag in slot_tags()]
    assert [slot_of(key) for key in keys] == [*range(SLOTS)]
    nodes.has, nodes.away = {keys[0], keys[9], keys[-1]}, {keys[7]}
    assert await nodes._indexes(LEASE) == [keys[0], keys[9], keys[-1]]
    with pytest.raises(AdapterUnavailable, match="slot"):
        await nodes.bury(LEASE)
    assert "DEL" not in nodes.done
    nodes.away.clear()
    await nodes.bury(LEASE)
    assert nodes.done == ["DEL"] * 3 + ["ZREM"]


async def test_where_nobody_answers_there_is_no_telling_which_rooms_there_are() -> None:
    nodes = Nodes()
    nodes.away = {worker_key(b"rooms", LEASE, tag) for tag in slot_tags()}
    with pytest.raises(AdapterUnavailable, match="away"):
        await nodes.rooms_of(LEASE)


class NoLane:
    """A node that cannot be asked."""

    async def ask_each(self, *_: object) -> None:
        raise AWAY


@pytest.mark.parametrize("lane", [None, NoLane()])
@pytest.mark.parametrize("answer", [[1], AWAY])
async def test_what_one_node_does_not_answer_is_asked_of_whichever_has_the_slot_then(
    monkeypatch: pytest.MonkeyPatch, lane: Any, answer: Any
) -> None:
    presence = ClusterPresence(SlotLanes(None, timeout=5, refresh=lambda: None), "rooms")  # type: ignore[arg-type]  # no messages
    asked: list[int] = []

    async def ask(slot: int, *_: object) -> Any:
        asked.append(slot)
        if answer is AWAY:
            raise AWAY
        return answer

    monkeypatch.setattr(presence._questions, "ask", ask)
    monkeypatch.setattr(presence._lanes, "is_serving", lambda _: False)
    parts = [Part(key, b"", 1) for key in (b"one", b"two")]
    told: dict[int, Any] = {}
    await presence._ask_lane(lane, parts, [0, 1], told.__setitem__)
    assert asked == [slot_of(part.key) for part in parts]
    assert told == {0: answer, 1: answer}
