"""Targets: adding to one makes another, and nobody is not everybody."""

from __future__ import annotations

from fastapi_rooms.core.target import Target


def test_a_target_is_everyone_until_a_room_is_named() -> None:
    assert Target() == Target(rooms=None, except_=())


def test_to_adds_rooms_in_order_and_each_once() -> None:
    target = Target().to(("a", "b", "a")).to(("b", "c"))
    assert target == Target(("a", "b", "c"))
    assert Target().to(("a",)).to(("b",)).to(("a",)) == Target(("a", "b"))


def test_excluding_adds_rooms_in_order_and_each_once() -> None:
    target = Target().excluding(("a", "b", "a")).excluding(("b", "c"))
    assert target == Target(None, ("a", "b", "c"))


def test_addressing_no_rooms_addresses_nobody_not_everyone() -> None:
    assert Target().to(()).rooms == ()


def test_rooms_may_follow_an_empty_address() -> None:
    assert Target().to(()).to(("a",)) == Target(("a",))


def test_the_two_lists_do_not_touch_each_other() -> None:
    target = Target().excluding(("a",)).to(("a", "b")).excluding(("c",))
    assert target == Target(("a", "b"), ("a", "c"))


def test_the_target_that_was_added_to_stays_as_it_was() -> None:
    base = Target(("a",), ("x",))
    base.to(("b",))
    base.excluding(("y",))
    assert base == Target(("a",), ("x",))


def test_adding_many_names_to_many_looks_for_none_of_them_one_by_one() -> None:
    class Name(str):
        __slots__ = ()
        compared = 0

        def __eq__(self, other: object) -> bool:
            Name.compared += 1
            return str.__eq__(self, str(other))

        __hash__ = str.__hash__

    known = tuple(Name(f"known {number}") for number in range(1000))
    more = tuple(Name(f"more {number}") for number in range(1000))
    assert len(Target(known, known).to(more).excluding(more).except_) == 2000
    assert Name.compared < 10_000  # of a million
