"""Who is present in a room, and which workers live, where much has come and gone."""

from __future__ import annotations

from fastapi_rooms.core.presence import Entry, Lease, Leases, RoomPresence

NODE = "node"
FIRST = Lease(NODE, 1)


def test_users_who_come_and_go_for_ever_cost_no_more_than_those_who_are_gone() -> None:
    room = RoomPresence()
    room.change(FIRST, 0, grace=10_000, start=1, enter=[Entry("first", "zoe")])
    room.change(FIRST, 0, grace=10_000, start=1, leave=["first"])
    for now in range(1000):
        room.change(FIRST, now, grace=10_000, start=1, enter=[Entry("sid", "ann")])
        room.change(FIRST, now, grace=10_000, start=1, leave=["sid"])
    assert list(room.users) == ["zoe", "ann"]
    assert len(room._due) < 100
    assert [event.user for event in room.sweep(10_998, start=1).events] == ["zoe"]
    assert [event.user for event in room.sweep(10_999, start=1).events] == ["ann"]


def test_those_whose_grace_is_over_leave_in_that_order_however_often_others_came() -> None:
    room = RoomPresence()
    for number, user in enumerate(("ann", "bob", "cem")):
        room.change(FIRST, number, grace=1000, start=1, enter=[Entry(user, user)])
    for now in range(100):
        room.change(FIRST, now, grace=1000, start=1, leave=["bob"])
        room.change(FIRST, now, grace=1000, start=1, enter=[Entry("bob", "bob")])
    room.change(FIRST, 200, grace=1000, start=1, leave=["cem"])
    room.change(FIRST, 201, grace=1000, start=1, leave=["bob"])
    room.change(FIRST, 202, grace=1000, start=1, leave=["ann"])
    left = room.sweep(5000, start=1).events
    assert [event.user for event in left] == ["cem", "bob", "ann"]


def test_a_new_lease_has_a_number_that_none_who_is_dead_has() -> None:
    leases = Leases()
    for number in (0, 1, 2):
        assert leases.beat(Lease(NODE, number), 0, 10) == Lease(NODE, max(1, number))
        leases._ends[Lease(NODE, number + 1)] = 10
    assert leases.overdue(10, 9) == [Lease(NODE, number) for number in (1, 2, 3)]
    assert leases.beat(Lease(NODE, 1), 20, 10) == Lease(NODE, 4)
    assert leases.beat(Lease(NODE, 0), 20, 10) == Lease(NODE, 4)
