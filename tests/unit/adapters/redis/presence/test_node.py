"""What one Redis is asked in one go, of which it refuses some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from fastapi_rooms.adapters.presence import Changed, Entry, Lease, RoomChange, RoomKey, Terms
from fastapi_rooms.adapters.redis.presence.node import NodePresence
from fastapi_rooms.adapters.redis.presence.reader import Part
from fastapi_rooms.errors import AdapterUnavailable

LEASE = Lease("0a", 1)
ROOMS = [RoomKey(b"/#%d" % number, b"channel") for number in range(4)]
CHANGES = [RoomChange(room, Terms(0), [Entry("1", "ann")]) for room in ROOMS]


class RefusingLane:
    """A Redis that refuses the calls of some rooms, each once; what it does it notes."""

    def __init__(self, refusal: str, refused: set[bytes]) -> None:
        self.refusal = refusal
        self.refused = refused
        self.done: list[bytes] = []
        self.verbs: list[list[str]] = []
        self.left = 0

    async def ask_each(
        self,
        questions: Sequence[tuple[bytes, int]],
        needs: object,
        answered: Callable[[int, list[Any] | AdapterUnavailable], None],
    ) -> None:
        self.verbs.append([])
        for at, (data, _) in enumerate(questions):
            reader = hiredis.Reader()
            reader.feed(data)
            verb, _, count, *rest = reader.gets()
            self.verbs[-1].append(verb.decode())
            name = rest[int(count)]
            if name in self.refused:
                self.refused.discard(name)
                answered(at, [hiredis.ReplyError(self.refusal)])
            else:
                self.done.append(name)
                answered(at, [[0, 1, -1, 1, b"", b""]])

    def leave(self) -> None:
        self.left += 1


async def change(lane: RefusingLane) -> None:
    told: dict[int, Changed | AdapterUnavailable] = {}
    presence = NodePresence(lane, "rooms")  # type: ignore[arg-type]  # as much of one as is used
    await presence.change_rooms(LEASE, CHANGES, told.__setitem__)
    assert all(isinstance(told[at], Changed) for at in range(len(ROOMS)))


async def test_only_the_rooms_are_changed_again_whose_script_redis_had_forgotten() -> None:
    """The answer of the others says what they have made; a second would say nothing of it."""
    lane = RefusingLane("NOSCRIPT No matching script.", {b"/#1", b"/#2"})
    await change(lane)
    assert lane.done == [b"/#0", b"/#3", b"/#1", b"/#2"]
    assert lane.verbs == [["EVALSHA"] * 4, ["EVAL", "EVALSHA"]], "the text goes there once"
    assert lane.left == 0


async def test_only_the_rooms_are_changed_elsewhere_that_a_master_refused_as_it_became_none() -> (
    None
):
    lane = RefusingLane("READONLY You can't write against a read only replica.", {b"/#2", b"/#3"})
    await change(lane)
    assert lane.done == [b"/#0", b"/#1", b"/#2", b"/#3"]
    assert lane.left == 1


class ReplicaLane:
    """A Redis that is a replica until it is left."""

    def __init__(self) -> None:
        self.asked = self.left = 0

    async def ask(self, encode: Callable[[], bytes], count: int, needs: object) -> list[Any]:
        self.asked += 1
        if not self.left:
            return [hiredis.ReplyError("READONLY You can't write against a read only replica.")]
        return [[1, 0, b"0a"]] * count

    def leave(self) -> None:
        self.left += 1


async def test_a_master_is_asked_for_what_a_replica_refuses() -> None:
    lane = ReplicaLane()
    presence = NodePresence(lane, "rooms")  # type: ignore[arg-type]  # as much of one as is used
    assert await presence._ask([Part(b"key", b"PING", 2)]) == [[[1, 0, b"0a"]] * 2]
    assert (lane.asked, lane.left) == (2, 1)
