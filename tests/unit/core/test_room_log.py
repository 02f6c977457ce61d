"""What a worker remembers of a room, and how much of it."""

from __future__ import annotations

import pytest

from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import MAX_BYTES, MAX_MEANWHILE, Kept, RoomLog, Stretch, after

EPOCH = "00000000000000ab"
SIZE = 10


def message(offset: int, item: bytes = b"") -> Kept[bytes]:
    return Kept(offset, 10 * offset, item)


def at(offset: int) -> Position:
    return Position(EPOCH, offset, 10 * offset)


def log_of(
    *kept: Kept[bytes], top: int = 0, before: int | None = None, size: int = SIZE
) -> RoomLog[bytes]:
    """A log that has read what is kept, and so begins at the top."""
    log: RoomLog[bytes] = RoomLog(size, len)
    log.begin_read()
    log.finish_read(Stretch(at(kept[-1].offset if kept else top), kept, before))
    return log


def come(log: RoomLog[bytes], *messages: Kept[bytes], deliver: bool = True) -> None:
    for each in messages:
        log.receive(EPOCH, 10 * (each.offset - 1), each)
        if deliver:
            deliver_all(log)


def deliver_all(log: RoomLog[bytes]) -> list[int]:
    delivered = []
    while (following := log.next()) is not None:
        delivered.append(following.offset)
        log.advance()
    return delivered


def offsets(messages: list[Kept[bytes]] | None) -> list[int] | None:
    return None if messages is None else [each.offset for each in messages]


# From before all that is remembered.


def test_who_was_at_the_end_of_an_empty_log_is_given_what_follows() -> None:
    log = log_of(top=5)
    assert log.since(at(5)) == []
    come(log, message(6), message(7))
    assert offsets(log.since(at(5))) == [6, 7]
    for wrong in (at(4), at(5)._replace(tag=51), at(5)._replace(epoch="f" * 16)):
        assert log.since(wrong) is None


def test_who_was_at_the_end_when_all_was_forgotten_is_given_what_follows() -> None:
    log = log_of(*(message(n) for n in range(1, 6)))
    log.forget()
    assert log.since(at(5)) == []
    come(log, message(6), message(7))
    assert offsets(log.since(at(5))) == [6, 7]
    assert log.since(at(4)) is None
    assert offsets(log.recent(SIZE)) == [6, 7]


def test_what_the_carrier_knows_to_be_before_the_first_counts_in_the_log() -> None:
    log = log_of(message(6), message(7), before=50)
    come(log, message(8))
    assert offsets(log.since(at(5))) == [6, 7, 8]
    assert log_of(message(6), message(7)).since(at(5)) is None


def test_of_what_follows_the_beginning_no_more_can_be_missed_than_of_anything() -> None:
    log = log_of(top=5)
    come(log, *(message(n) for n in range(6, 6 + SIZE)))
    assert offsets(log.since(at(5))) == [*range(6, 6 + SIZE)]
    come(log, message(6 + SIZE))
    assert log.since(at(5)) is None
    assert offsets(log.since(at(6))) == [*range(7, 7 + SIZE)]


def test_the_first_of_a_part_that_does_not_reach_the_end_is_no_place_by_itself() -> None:
    part = Stretch(at(9), [message(3), message(4)])
    assert offsets(after(part, at(3))) == [4]
    for outside in (at(2), at(5), at(8)):
        assert after(part, outside) is None


# Forgotten.


def test_what_was_sent_before_all_was_forgotten_is_delivered_and_not_remembered() -> None:
    log = log_of(message(1))
    come(log, message(2), message(3), deliver=False)
    log.forget()
    come(log, message(4), deliver=False)
    assert deliver_all(log) == [2, 3, 4]
    assert offsets(log.recent(SIZE)) == [4]
    assert offsets(log.since(at(3))) == [4]
    assert log.since(at(2)) is None


def test_what_was_being_read_when_all_was_forgotten_is_read_again() -> None:
    log: RoomLog[bytes] = RoomLog(SIZE, len)
    log.begin_read()
    log.forget()
    log.finish_read(Stretch(at(3), [message(2), message(3)]))
    assert log.needs_read
    assert log.begin_read() is None
    log.finish_read(Stretch(at(3), []))
    assert log.recent(SIZE) == []


def test_what_is_to_be_read_anew_while_it_is_read_is_all_read_again() -> None:
    log = log_of(*(message(n) for n in range(1, 6)))
    log.needs_read = True
    assert log.begin_read() == at(5)
    log.refresh()
    log.finish_read(Stretch(at(5), [message(5)]))
    assert offsets(log.recent(SIZE)) == [1, 2, 3, 4, 5]
    assert log.needs_read
    assert log.begin_read() is None
    log.fail_read()
    assert log.begin_read() is None, "it has still to be"


def test_the_last_that_was_delivered_is_known_though_it_is_forgotten() -> None:
    log = log_of(message(1))
    log.forget()
    come(log, message(1))
    assert not log.needs_read


# As much as fits.


def test_more_bytes_than_may_be_remembered_are_not() -> None:
    log, item = log_of(), bytes(MAX_BYTES // 4)
    come(log, *(message(n, item) for n in range(1, 9)))
    assert offsets(log.recent(SIZE)) == [5, 6, 7, 8]
    assert offsets(log.since(at(4))) == [5, 6, 7, 8]
    assert log.since(at(3)) is None
    come(log, message(9, bytes(MAX_BYTES + 1)))
    assert log.recent(SIZE) == []
    assert log.since(at(9)) == []
    come(log, message(10))
    assert offsets(log.since(at(9))) == [10]


def test_more_bytes_than_may_be_remembered_are_not_when_they_are_read() -> None:
    item = bytes(MAX_BYTES // 4)
    log = log_of(*(message(n, item) for n in range(1, 9)))
    assert offsets(log.recent(SIZE)) == [5, 6, 7, 8]
    assert offsets(log.since(at(4))) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    ("size", "count"), [(MAX_BYTES // 4, 4), (MAX_BYTES + 1, 1), (0, SIZE + 1)]
)
def test_what_waits_to_be_delivered_is_bounded_and_read_again(size: int, count: int) -> None:
    log, item = log_of(), bytes(size)
    come(log, *(message(n, item) for n in range(1, count + 1)), deliver=False)
    assert log.next() == message(1, item)
    assert not log.needs_read
    come(log, message(count + 1, item), deliver=False)
    assert log.next() is None
    assert log.begin_read() == at(0)


@pytest.mark.parametrize(("size", "count"), [(MAX_BYTES // 4, 4), (0, MAX_MEANWHILE)])
def test_what_comes_while_the_carrier_is_read_is_bounded_and_read_again(
    size: int, count: int
) -> None:
    log, item = log_of(size=MAX_MEANWHILE), bytes(size)
    for too_much in (0, 1):
        log.needs_read = True
        log.begin_read()
        end = log.position.offset if log.position else 0
        come(log, *(message(end + n, item) for n in range(1, count + 1 + too_much)), deliver=False)
        log.finish_read(Stretch(at(end), []))
        assert log.needs_read is bool(too_much)
        deliver_all(log)


def test_without_a_cost_of_its_own_a_message_costs_an_entry() -> None:
    log: RoomLog[None] = RoomLog(2 * MAX_BYTES // ENTRY_BYTES)
    log.begin_read()
    log.finish_read(Stretch(at(0), []))
    for offset in range(1, MAX_BYTES // ENTRY_BYTES + 100):
        log.receive(EPOCH, 10 * (offset - 1), Kept(offset, 10 * offset, None))
        log.advance()
    assert len(log.recent(MAX_BYTES)) == MAX_BYTES // ENTRY_BYTES


# In parts.


def test_what_was_missed_is_delivered_part_by_part() -> None:
    log = log_of(top=1)
    log.needs_read = True
    delivered = []
    for part in (range(1, 5), range(4, 8), range(7, 9)):
        assert log.begin_read() == at(part.start)
        assert log.finish_read(Stretch(at(8), [message(n) for n in part]))
        delivered += deliver_all(log)
        assert log.needs_read is (part.stop < 9)
    assert delivered == [*range(2, 9)]
