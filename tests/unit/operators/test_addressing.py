"""How a target is built, whatever operator it is for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import InvalidRoomName, UsageError
from fastapi_rooms.operators.addressing import Addressing
from tests.unit.strategies import room_names


class _Operator(Addressing["_Operator"]):
    """An operator that can do nothing but address."""

    @property
    def target(self) -> Target:
        return self._target

    def _with_target(self, target: Target) -> _Operator:
        return _Operator(target)


EVERYONE = _Operator(Target())


def test_everyone_is_addressed_until_a_room_is_named() -> None:
    assert EVERYONE.target == Target(None, ())
    assert EVERYONE.to("lobby").target == Target(("lobby",), ())


def test_no_names_address_nobody() -> None:
    assert EVERYONE.to().target == Target((), ())
    assert EVERYONE.to(*[]).to("lobby").target == Target(("lobby",), ()), "it can be added to"


def test_leaving_out_no_names_changes_nothing() -> None:
    assert EVERYONE.except_().target == Target()
    assert EVERYONE.to("lobby").except_().target == Target(("lobby",))


def test_names_are_added_in_order_and_each_once() -> None:
    operator = EVERYONE.to("b", "a", "b").to("c", "a").except_("y", "x").except_("x", "z")
    assert operator.target == Target(("b", "a", "c"), ("y", "x", "z"))


def test_a_call_gives_another_operator_and_changes_nothing() -> None:
    lobby = EVERYONE.to("lobby")
    assert lobby.to("bar").target != lobby.target
    assert lobby.except_("ann") is not lobby
    assert (EVERYONE.target, lobby.target) == (Target(), Target(("lobby",)))


@given(st.lists(room_names), st.lists(room_names))
def test_in_which_order_rooms_and_exceptions_are_named_is_no_matter(
    rooms: list[str], exceptions: list[str]
) -> None:
    one = EVERYONE.to(*rooms).except_(*exceptions)
    other = EVERYONE.except_(*exceptions).to(*rooms)
    assert one.target == other.target


@pytest.mark.parametrize("verb", ["to", "except_"])
@pytest.mark.parametrize("name", ["", "x" * 256, 5, None, b"lobby", ["lobby"]])
def test_a_bad_name_is_refused(verb: str, name: Any) -> None:
    with pytest.raises(InvalidRoomName):
        getattr(EVERYONE, verb)("fine", name)


@pytest.mark.parametrize("verb", ["to", "except_"])
def test_more_names_than_the_wire_can_carry_are_refused(verb: str) -> None:
    most = getattr(EVERYONE, verb)(*map(str, range(65_535)))
    with pytest.raises(UsageError, match="at most 65535"):
        getattr(most, verb)("one more")
