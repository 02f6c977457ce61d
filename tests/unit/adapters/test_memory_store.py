"""What a bus keeps of rooms that remember, and what it forgets first."""

from __future__ import annotations

import itertools

import pytest

from fastapi_rooms.adapters.history import Position, Retention, RoomKey, after
from fastapi_rooms.adapters.memory import store as store_module
from fastapi_rooms.adapters.memory.store import IDLE_TIME, REPEATS, RoomStore
from fastapi_rooms.core.costs import ENTRY_BYTES

RETENTION = Retention(size=10, ttl=60)
MESSAGE = 1000
COST = MESSAGE + ENTRY_BYTES

tags = itertools.count(1)


class Bench:
    """A store, its clock, and who is subscribed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.members: set[bytes] = set()
        epochs = (f"{number:016x}" for number in itertools.count())
        self.store = RoomStore(epochs.__next__, self.members.__contains__)

    def append(
        self,
        room: bytes,
        tag: int | None = None,
        *,
        retention: Retention = RETENTION,
        size: int = MESSAGE,
    ) -> Position:
        tag = tag or next(tags)
        return self.store.append(key(room), bytes(size), tag, retention, self.now).position

    def count(self, room: bytes) -> int:
        return len(self.store.read(key(room), self.now).messages)

    def top(self, room: bytes) -> Position | None:
        return self.store.top(key(room))

    def sweep(self) -> None:
        self.store.sweep(self.store.names(), self.now)


def key(room: bytes) -> RoomKey:
    return RoomKey(room, b"#" + room)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_retention_that_a_message_brings_holds_from_then_on(bench: Bench) -> None:
    for _ in range(20):
        bench.append(b"tea")
    assert bench.count(b"tea") == 11
    bench.append(b"tea", retention=Retention(size=2, ttl=5))
    assert bench.count(b"tea") == 3
    assert bench.store.bytes == 3 * COST
    bench.now = 5.0
    assert bench.count(b"tea") == bench.store.bytes == 0


def test_who_asks_for_what_follows_a_position_that_is_gone_gets_all_that_there_is(
    bench: Bench,
) -> None:
    position = bench.append(b"tea")
    for _ in range(20):
        bench.append(b"tea")
    read = bench.store.read_since(key(b"tea"), position, bench.now)
    assert read == bench.store.read(key(b"tea"), bench.now)
    assert len(read.messages) == 11


def test_a_message_that_is_sent_again_does_not_make_the_others_live_longer(bench: Bench) -> None:
    bench.append(b"tea", 7001)
    bench.append(b"tea", 7002)
    bench.now = 59.0
    bench.append(b"tea", 7001)
    bench.now = 60.0
    assert bench.count(b"tea") == 0


def test_one_that_is_sent_again_is_recognised_among_the_newest(bench: Bench) -> None:
    retention = Retention(size=1000, ttl=60)
    first = bench.append(b"tea", retention=retention)
    for _ in range(REPEATS - 1):
        bench.append(b"tea", retention=retention)
    assert bench.append(b"tea", first.tag, retention=retention) == first
    assert bench.append(b"tea", retention=retention).offset == REPEATS + 1


def test_the_last_one_is_recognised_although_it_has_expired(bench: Bench) -> None:
    top = bench.append(b"tea")
    bench.now = 1000.0
    assert bench.append(b"tea", top.tag) == top
    assert bench.count(b"tea") == 0


def test_beyond_the_limit_the_rooms_used_least_recently_are_forgotten(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_KEPT_BYTES", 4 * COST)
    a, b = bench.append(b"a"), bench.append(b"b")
    bench.append(b"c")
    bench.append(b"d")
    assert bench.count(b"a") == 1  # reading is using
    bench.append(b"e")
    assert [bench.count(name) for name in (b"a", b"b", b"c", b"d", b"e")] == [1, 0, 1, 1, 1]
    assert bench.store.bytes == 4 * COST
    assert (bench.top(b"a"), bench.top(b"b")) == (a, b), "every numbering goes on"


def test_a_room_that_is_alone_beyond_the_limit_keeps_its_newest_messages(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_KEPT_BYTES", 4 * COST)
    bench.append(b"other")
    positions = [bench.append(b"tea") for _ in range(6)]
    assert bench.count(b"other") == 0
    read = bench.store.read(key(b"tea"), bench.now)
    assert [message.offset for message in read.messages] == [p.offset for p in positions[2:]]
    bench.append(b"tea", size=100 * COST)
    assert bench.count(b"tea") == 1, "one is kept, whatever its size"
    bench.append(b"other")
    assert (bench.count(b"tea"), bench.count(b"other"), bench.store.bytes) == (0, 1, COST)


def test_a_room_that_nobody_uses_has_no_numbering_after_a_while(bench: Bench) -> None:
    bench.members.add(b"#with a member")
    position = bench.append(b"tea")
    bench.append(b"with a member")
    for _ in range(9):
        bench.append(b"with messages", retention=Retention(size=1, ttl=IDLE_TIME * 10))
    bench.now = 60.0
    bench.sweep()
    assert bench.store.bytes == 2 * COST
    assert bench.top(b"tea") == position
    bench.now = IDLE_TIME
    bench.sweep()
    assert bench.top(b"tea") is None
    assert len(bench.store) == 2
    read = bench.store.read_since(key(b"tea"), position, bench.now)
    assert after(read, position) is None, "there is another epoch"
    bench.members.clear()
    bench.now += IDLE_TIME - 1
    bench.sweep()
    assert bench.top(b"with a member"), "it had one until lately"
    bench.now += IDLE_TIME * 20
    bench.sweep()
    bench.now += IDLE_TIME
    bench.sweep()
    assert (len(bench.store), bench.store.bytes) == (0, 0)


def test_numberings_are_limited_in_number_and_those_with_members_stay(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_ROOMS", 10)
    bench.members.add(b"#0")
    for number in range(100):
        bench.append(b"%d" % number)
    assert len(bench.store) == 10
    assert bench.store.bytes == 10 * COST
    assert bench.top(b"0")
    assert [bench.top(b"%d" % n) is not None for n in range(90, 100)].count(True) == 9


def test_rooms_with_members_may_be_more_than_the_limit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_ROOMS", 10)
    bench.members.update(b"#%d" % number for number in range(300))
    positions = [bench.append(b"%d" % number) for number in range(300)]
    assert [bench.top(b"%d" % number) for number in range(300)] == positions
