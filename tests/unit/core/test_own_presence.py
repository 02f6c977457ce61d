"""What a worker has to tell of its own sockets in a room, before everything is put in again."""

from __future__ import annotations

from fastapi_rooms.core.own_presence import BEHIND, Change, OwnRoom
from fastapi_rooms.core.presence import Entry, sums_of


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


def test_who_came_and_went_between_two_changes_is_not_mentioned() -> None:
    room = told_of(Entry("1", "ann"))
    room.enter(Entry("2", "bob"))
    room.leave("2")
    assert room.is_told
    room.leave("1")
    room.enter(Entry("1", "ann"))
    room.leave("1")
    assert room.begin_change() == Change([], ["1"]), "the carrier knows her"


def test_who_may_be_known_by_a_change_that_is_under_way_is_mentioned() -> None:
    room = OwnRoom()
    room.enter(Entry("1", "ann"))
    room.begin_change()
    room.leave("1")
    room.enter(Entry("1", "ann"))
    room.leave("1")
    room.fail(is_sync=False)
    assert room.begin_change() == Change([], ["1"])
    room.fail(is_sync=False)
    room.enter(Entry("1", "ann"))
    assert room.begin_change() == Change([Entry("1", "ann")], [])


def test_a_carrier_is_behind_what_was_heard_at_the_second_look_only() -> None:
    room = OwnRoom()
    assert not room.is_behind(9, 5, 0.0)
    assert not room.is_behind(9, 5, BEHIND - 1)
    assert room.is_behind(9, 5, BEHIND)
    assert not room.is_behind(9, 5, BEHIND + 1), "it has been taken back, and this is another one"
    assert not room.is_behind(9, 9, BEHIND + 2)
    assert not room.is_behind(9, 5, 3 * BEHIND), "it has been up to date since"
    assert not room.is_behind(9, 0, 9 * BEHIND), "it knows nothing of the room"
    assert not room.is_behind(9, 5, 9 * BEHIND)
    assert room.is_behind(9, 5, 10 * BEHIND)


def test_one_that_is_of_another_user_counts_as_that_one() -> None:
    room = told_of(Entry("1", "ann"))
    room.enter(Entry("1", "bob"))
    room.leave("nobody")
    assert "1" in room
    assert "2" not in room
    assert room.sums == sums_of([Entry("1", "bob")])
    assert room.begin_change() == Change([Entry("1", "bob")], [])
    room.succeed(2)
    room.leave("1")
    assert room.begin_change() == Change([], ["1"])
    room.succeed(3)
    assert (bool(room), room.sums, room.version) == (False, (0, 0), 3)
