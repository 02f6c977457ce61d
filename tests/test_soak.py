"""The soak's own judgment: what it takes for wrong, and what it excuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastapi_rooms import RoomManager
from tests.soak.ledger import Hearer, Ledger
from tests.soak.memory import Memory
from tests.soak.state import State, containers, grown, left_behind
from tests.soak.verdict import ALLOWED_GROWTH, ALLOWED_OBJECTS, Worker

ROOM = "/:hall"


class Scene:
    """A sender, and a hearer who was there before it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.hearer = self.ledger.hearer("ann", worker=0)
        self.hearer.joins(ROOM)
        self.hearer.joined(1.0, ROOM)
        self.sender = self.ledger.sender("bob", 2.0)
        self.sender.is_sure = True

    def hears(self, *numbers: int, hearer: Hearer | None = None) -> None:
        """Each message is sent ten seconds after the one before."""
        for number in numbers:
            text = f"m {ROOM} bob {number} {10 * (number + 1)}.0"
            assert self.ledger.heard(hearer or self.hearer, text)

    def says(self, count: int) -> None:
        for _ in range(count):
            self.sender.next_to(ROOM)

    def faults(self) -> dict[str, int]:
        self.ledger.close(1000.0)
        return dict(self.ledger.faults)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_all_that_was_said_and_heard_in_order_is_well(scene: Scene) -> None:
    scene.says(3)
    scene.hears(0, 1, 2)
    assert scene.faults() == {}


@pytest.mark.parametrize(
    ("numbers", "faults"),
    [
        ((0, 1, 1, 2), {"twice": 1}),
        ((0, 2, 1), {"out of order": 1, "lost": 1}),
        ((0, 2), {"lost": 1}),
        ((1, 2), {"lost": 1}),
        ((0, 1), {"lost": 1}),
        ((), {"lost": 1}),
    ],
    ids=["twice", "out of order", "in between", "the first", "the last", "all"],
)
def test_what_is_wrong_is_a_fault(
    scene: Scene, numbers: tuple[int, ...], faults: dict[str, int]
) -> None:
    scene.says(3)
    scene.hears(*numbers)
    assert scene.faults() == faults


def test_a_message_of_a_room_that_one_is_not_in_is_a_fault(scene: Scene) -> None:
    scene.ledger.heard(scene.hearer, "m /:elsewhere bob 0 10.0")
    assert scene.faults() == {"foreign": 1}


def test_what_was_sent_before_one_left_may_come_and_what_was_sent_after_may_not(
    scene: Scene,
) -> None:
    scene.hears(0)
    scene.hearer.left(25.0, ROOM)
    scene.hears(1)
    assert scene.faults() == {}
    scene = Scene()
    scene.hearer.left(15.0, ROOM)
    scene.hears(1)
    assert scene.faults() == {"foreign": 1}


@pytest.mark.parametrize(
    ("gap", "faults"),
    [
        ("gap 15.0 25.0 /:hall", {}),
        ("gap 15.0 25.0 /:other /:hall", {}),
        ("gap 15.0 25.0 /:other", {"lost": 1}),
        ("gap 2.0 9.0 /:hall", {"lost": 1}),
        ("gap 36.0 50.0 /:hall", {"lost": 1}),
    ],
    ids=["in it", "several rooms", "another room", "before", "after"],
)
def test_only_a_gap_of_the_room_at_that_time_excuses_what_is_missing(
    scene: Scene, gap: str, faults: dict[str, int]
) -> None:
    scene.says(3)
    scene.hears(0, 2)
    scene.ledger.heard(scene.hearer, gap)
    assert scene.faults() == faults


def test_a_gap_that_another_on_the_worker_heard_of_excuses_only_who_has_left(
    scene: Scene,
) -> None:
    other = scene.ledger.hearer("carl", worker=0)
    scene.ledger.heard(other, "gap 15.0 25.0 /:hall")
    scene.says(3)
    scene.hears(0, 2)
    assert len(scene.ledger.losses(1000.0)) == 1
    scene.hearer.is_here = False
    assert scene.ledger.losses(1000.0) == []


def test_what_was_refused_to_its_sender_need_not_come_but_all_of_it_has_to_be(
    scene: Scene,
) -> None:
    me = scene.ledger.hearer("bob", worker=1)
    scene.says(4)
    scene.hears(0, 3)
    scene.ledger.heard(me, "refused /:hall 1")
    assert len(scene.ledger.losses(1000.0)) == 1
    scene.ledger.heard(me, "refused /:hall 2")
    assert scene.ledger.losses(1000.0) == []


def test_of_a_sender_who_was_cut_off_nothing_need_come_but_nothing_may_come_twice(
    scene: Scene,
) -> None:
    scene.sender.is_sure = False
    scene.says(9)
    scene.hears(0, 4, 4)
    assert scene.faults() == {"twice": 1}


def test_who_joined_in_the_midst_of_it_has_to_hear_all_from_the_first_on(scene: Scene) -> None:
    late = scene.ledger.hearer("dora", worker=1)
    late.joins(ROOM)
    late.joined(15.0, ROOM)
    scene.says(4)
    scene.hears(0, 1, 2, 3)
    scene.hears(2, 3, hearer=late)
    assert scene.faults() == {}


def test_an_answer_is_none_of_the_ledgers_business(scene: Scene) -> None:
    assert not scene.ledger.heard(scene.hearer, "joined")


# What a worker holds on to.


def test_every_container_that_a_manager_leads_to_is_seen() -> None:
    rooms = RoomManager()
    before = dict(containers(rooms, "rooms", set()))
    another = rooms.of("/another")
    another.on("gap")(print)
    rooms._here._members._sids["left"] = {"behind": None}
    after = dict(containers(rooms, "rooms", set()))
    left = left_behind(before, after)
    for path in ("._runtime.living", "._members._sids"):
        assert any(line.partition(" ")[0].endswith(path) for line in left), left
    assert left_behind(after, before) == []


def test_growth_is_told_by_type_from_the_least_on() -> None:
    assert grown({"a": 1, "b": 9}, {"a": 4, "b": 9, "c": 2}, 2) == ["+3 a", "+2 c"]


MEMORY = Memory(resident=100, used=50, free_python=25, free_malloc=25, peak=100)
HEALTH = {"ready": True, "buffered": 0, "lag": 0.0}
STATE = State(containers={"rooms": 1}, tasks=5, files=9, objects={"int": 7}, health=HEALTH)


def problems(state: State, memory: Memory = MEMORY) -> list[str]:
    worker = Worker(STATE, MEMORY, [STATE, state], [MEMORY, memory])
    return list(worker.problems())


CHANGES = {
    "a container": replace(STATE, containers={"rooms": 2}),
    "a task": replace(STATE, tasks=6),
    "a file": replace(STATE, files=10),
    "objects": replace(STATE, objects={"int": 7 + ALLOWED_OBJECTS}),
    "not ready": replace(STATE, health=HEALTH | {"ready": False}),
    "buffered": replace(STATE, health=HEALTH | {"buffered": 1}),
}


@pytest.mark.parametrize("state", CHANGES.values(), ids=CHANGES)
def test_each_thing_that_is_left_behind_is_a_problem(state: State) -> None:
    assert len(problems(state)) == 1
    assert problems(STATE) == []


def test_memory_in_use_may_not_grow_and_what_is_resident_may() -> None:
    more = ALLOWED_GROWTH + 1
    assert problems(STATE, replace(MEMORY, resident=100 + more, free_malloc=25 + more)) == []
    assert len(problems(STATE, replace(MEMORY, used=50 + more))) == 1
