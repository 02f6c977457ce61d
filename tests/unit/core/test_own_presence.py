"""What a worker has to tell of its own sockets in a room, before everything is put in again."""

from __future__ import annotations

from fastapi_rooms.core.own_presence import OwnRoom
from fastapi_rooms.core.presence import Entry


def told_of(*entries: Entry) -> OwnRoom:
    """A room whose sockets the carrier knows."""
    room = OwnRoom()
    for entry in entries:
        room.enter(entry)
    room.begin_change()
    room.succeed(1)
    return room


def test_users_who_were_never_told_of_are_told_before_a_sync() -> None:
    room = told_of(Entry("1", "ann"))
    room.needs_sync = True
    room.enter(Entry("2", "bob"))
    room.enter(Entry("3", "ann"))
    assert (room.has_news, room.is_due) == (True, True)
    assert room.begin_change(only_news=True).enter == [Entry("2", "bob")]
    assert [room.is_partial] == [True], "who waits for the others, waits"
    room.succeed(2)
    assert (room.has_news, room.is_due) == (False, True), "the sync is still to come"
    assert {*room.begin_sync()} == {Entry("1", "ann"), Entry("2", "bob"), Entry("3", "ann")}
    assert [room.is_partial] == [False]
    room.succeed(3)
    assert (room.is_told, room.is_due) == (True, False)


def test_who_has_left_and_who_is_known_are_no_news() -> None:
    room = told_of(Entry("1", "ann"), Entry("2", "bob"))
    assert not room.has_news
    room.leave("2")
    room.enter(Entry("3", "ann"))
    assert not room.has_news


def test_news_that_could_not_be_told_stay_news() -> None:
    room = told_of()
    room.needs_sync = True
    room.enter(Entry("1", "ann"))
    room.begin_change(only_news=True)
    room.fail(is_sync=True)
    assert room.has_news
    assert room.needs_sync
