"""The two maps: each transition changes both and says what it changed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.membership import Joined, Left, Membership
from fastapi_rooms.core.target import Target


@pytest.fixture
def members() -> Membership[str]:
    """Ann is in red and green, Bob in green, Cid in none; a member is the sid in capitals."""
    members: Membership[str] = Membership()
    for sid in ("ann", "bob", "cid"):
        members.add(sid, sid.upper())
    members.join("ann", ["red", "green"])
    members.join("bob", ["green"])
    return members


def _maps(members: Membership[Any]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    rooms = {room: set(sids) for room, sids in members.rooms.items()}
    return rooms, {sid: set(rooms) for sid, rooms in members.sids.items()}


def test_the_maps_mirror_each_other(members: Membership[str]) -> None:
    assert _maps(members) == (
        {"red": {"ann"}, "green": {"ann", "bob"}},
        {"ann": {"red", "green"}, "bob": {"green"}, "cid": set()},
    )


def test_a_join_tells_the_rooms_joined_and_those_that_came_to_be(members: Membership[str]) -> None:
    assert members.join("bob", ["red", "blue"]) == Joined(("red", "blue"), ("blue",))


def test_joining_again_changes_nothing(members: Membership[str]) -> None:
    before = _maps(members)
    assert members.join("ann", ["red", "green", "red"]) == Joined((), ())
    assert _maps(members) == before


def test_a_room_named_twice_is_joined_once(members: Membership[str]) -> None:
    assert members.join("cid", ["new", "new"]) == Joined(("new",), ("new",))


def test_leaving_tells_the_rooms_left_and_those_that_are_gone(members: Membership[str]) -> None:
    assert members.leave("ann", ["green", "red", "green"]) == Left(("green", "red"), ("red",))
    assert "red" not in members.rooms
    assert members.sids["ann"] == set()


def test_leaving_where_one_is_not_changes_nothing(members: Membership[str]) -> None:
    before = _maps(members)
    assert members.leave("bob", ["red", "nowhere"]) == Left((), ())
    assert members.leave("nobody", ["red"]) == Left((), ())
    assert _maps(members) == before


def test_a_removed_member_is_in_neither_map(members: Membership[str]) -> None:
    left = members.remove("ann")
    assert set(left.rooms) == {"red", "green"}
    assert left.deleted == ("red",)
    assert _maps(members) == ({"green": {"bob"}}, {"bob": {"green"}, "cid": set()})
    assert members.get("ann") is None
    assert len(members) == 2


def test_removing_one_that_is_gone_is_harmless(members: Membership[str]) -> None:
    before = _maps(members)
    assert members.remove("nobody") == Left((), ())
    assert _maps(members) == before


def test_clear_forgets_everyone(members: Membership[str]) -> None:
    members.clear()
    assert _maps(members) == ({}, {})
    assert len(members) == 0
    assert list(members.members()) == []


def test_a_member_is_found_by_its_sid(members: Membership[str]) -> None:
    assert members.get("bob") == "BOB"
    assert sorted(members.members()) == ["ANN", "BOB", "CID"]


def test_the_version_rises_with_every_change() -> None:
    members: Membership[str] = Membership()
    versions = [members.version]
    members.add("ann", "ANN")
    versions.append(members.version)
    members.join("ann", ["red"])
    versions.append(members.version)
    members.leave("ann", ["red"])
    versions.append(members.version)
    members.remove("ann")
    versions.append(members.version)
    assert versions == sorted(set(versions))


def test_asking_changes_no_version(members: Membership[str]) -> None:
    before = members.version
    members.resolve(Target(("red", "green"), ("bob",)))
    members.get("ann")
    assert (members.version, len(members)) == (before, 3)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(), ["ANN", "BOB", "CID"]),
        (Target(("red",)), ["ANN"]),
        (Target(("green",)), ["ANN", "BOB"]),
        (Target(("red", "green")), ["ANN", "BOB"]),
        (Target(("nowhere",)), []),
        (Target(("nowhere", "red")), ["ANN"]),
        (Target(()), []),
        (Target(None, ("red",)), ["BOB", "CID"]),
        (Target(("green",), ("red",)), ["BOB"]),
        (Target(("red", "green"), ("red", "green")), []),
        (Target(("green",), ("nowhere",)), ["ANN", "BOB"]),
        (Target(("nowhere",), ("red",)), []),
    ],
)
def test_a_target_resolves_to_each_addressed_member_once(
    members: Membership[str], target: Target, expected: list[str]
) -> None:
    resolved: Collection[str] = members.resolve(target)
    assert sorted(resolved) == expected
    assert len(resolved) == len(expected)


def test_views_follow_the_maps(members: Membership[str]) -> None:
    rooms, green, anns = members.rooms, members.rooms["green"], members.sids["ann"]
    members.join("cid", ["green"])
    members.leave("ann", ["red"])
    assert green == {"ann", "bob", "cid"}
    assert anns == {"green"}
    assert len(rooms) == 1
    assert list(rooms) == ["green"]


def test_views_cannot_be_written_to(members: Membership[str]) -> None:
    rooms = cast(Any, members.rooms)
    with pytest.raises(TypeError):
        rooms["red"] = {"eve"}
    with pytest.raises(TypeError):
        del rooms["red"]
    for change in ("add", "discard", "clear", "pop", "remove", "update"):
        assert not hasattr(rooms["red"], change)
    for change in ("pop", "clear", "update", "setdefault"):
        assert not hasattr(rooms, change)


def test_views_show_what_they_hold(members: Membership[str]) -> None:
    members.leave("bob", ["green"])
    assert repr(members.rooms) == "{'red': {'ann'}, 'green': {'ann'}}"


def test_many_leave_rooms_as_each_would_but_not_their_own(members: Membership[str]) -> None:
    members.join("bob", ["bob", "red"])
    before = members.version
    departures = members.leave_all(
        dict.fromkeys(("ann", "bob", "stranger")), ("red", "green", "bob", "nowhere")
    )
    assert departures == [("red", ["ann", "bob"], True), ("green", ["ann", "bob"], True)]
    assert _maps(members) == ({"bob": {"bob"}}, {"ann": set(), "bob": {"bob"}, "cid": set()})
    assert members.version > before


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.data())
def test_whoever_leaves_whatever_it_is_as_if_each_had_left(
    sids: set[int], rooms: set[int], data: st.DataObject
) -> None:
    one, many = Membership[str](), Membership[str]()
    for sid in map(str, range(10)):
        joined = data.draw(st.lists(st.integers(0, 9).map(str), max_size=5))
        for members in (one, many):
            members.add(sid, sid)
            members.join(sid, [sid, *joined])
    for sid in map(str, sids):
        one.leave(sid, [room for room in map(str, rooms) if room != sid])
    many.leave_all(dict.fromkeys(map(str, sids)), [*map(str, rooms)])
    assert _maps(many) == _maps(one)


def test_who_leaves_a_room_that_is_its_own_stays_and_others_do_not(
    members: Membership[str],
) -> None:
    """They may have joined it: it is a room like any other."""
    members.join("ann", ["ann"])
    members.join("bob", ["ann"])
    crowd = {sid: sid.upper() for sid in ("ann", "bob")}
    leave = members.begin_leave(crowd, ("ann",))
    assert members.rooms["ann"] == {"ann"}
    assert members.sids["ann"] == {"red", "green", "ann"}
    assert members.sids["bob"] == {"green"}
    assert "nobody" not in members.sids
    while leave.members:
        members.carry_out(leave, 1)
    assert members.rooms["ann"] == {"ann"}
