"""Which backend an edge hands it to that somebody came or left, and that it is done once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.core.presence import Entry, UserEvent
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope
from fastapi_rooms.gateway import presence as module
from fastapi_rooms.gateway.presence import EdgePresence
from fastapi_rooms.gateway.users import read_patterns, read_users
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import gateway as wire

TEA, RUM = Name("/", "tea"), Name("/", "rum")
ANN = UserEvent("leave", "ann", 7)
WANTS = {"told": [["/", "tea"]]}


class Handing:
    """An edge's presence, and the backends it hands things to."""

    def __init__(self, rooms: RoomManager) -> None:
        self.got: list[tuple[str, Any]] = []
        self.deaf: set[str] = set()
        self.failing: set[str] = set()
        self.presence = EdgePresence(rooms._runtime, self._publish)

    async def _publish(self, node: str, body: bytes) -> int:
        if node in self.failing:
            raise AdapterUnavailable("it may have it")
        if node not in self.deaf:
            self.got.append((node, wire.unpack_users(body)))
        return int(node not in self.deaf)

    async def done(self) -> list[str]:
        """The backends that have got something."""
        await eventually(lambda: not self.presence._tasks)
        return [node for node, _ in self.got]


@pytest.fixture
async def handing() -> AsyncIterator[Handing]:
    async with RoomManager() as rooms:
        handing = Handing(rooms)
        yield handing
        await handing.presence.close(1)


async def test_one_backend_that_has_handlers_is_told_and_of_a_room_always_the_same(
    handing: Handing,
) -> None:
    handing.presence.heard("0", {"told": []})
    for node in "123":
        handing.presence.heard(node, WANTS)
    for _ in range(5):
        handing.presence.made(TEA, [ANN])
    handing.presence.made(RUM, [ANN])
    (node,) = {*await handing.done()}
    assert node != "0"
    assert handing.got == [(node, ("/", "tea", [ANN], {7}))] * 5, "and of rum nobody"
    handing.presence.gone(node)
    handing.presence.made(TEA, [ANN])
    assert (await handing.done())[-1] != node


async def test_who_has_some_of_those_who_come_gets_all_and_tells_its_own_once(
    handing: Handing,
) -> None:
    for node in "123":
        handing.presence.heard(node, WANTS)
    for user, node in (("ann", "1"), ("bob", "2"), ("cem", "1"), ("eve", "gone")):
        handing.presence._entering["/", "tea", user] = node
    users = ("ann", "bob", "cem", "eve")
    events = [UserEvent("join", user, version) for version, user in enumerate(users, 5)]
    handing.presence.made(TEA, events)
    await handing.done()
    whole = {node: users for node, users in handing.got if len(users.events) > 1}
    assert {node: users.once - {8} for node, users in whole.items()} == {"1": {5, 7}, "2": {6}}
    assert all(users.events == events for users in whole.values())
    told_alone = [version for _, users in handing.got for version in users.once]
    assert sorted(told_alone) == [5, 6, 7, 8], "nobody has her: any one is told"
    assert len({node for node, _ in handing.got}) == len(handing.got), "each gets it at once"


async def test_one_that_does_not_hear_is_passed_over_and_one_that_may_have_heard_is_not(
    handing: Handing,
) -> None:
    for node in "12":
        handing.presence.heard(node, WANTS)
    handing.presence.made(TEA, [ANN])
    (first,) = await handing.done()
    handing.deaf.add(first)
    handing.presence.made(TEA, [ANN])
    _, second = await handing.done()
    assert second != first
    handing.failing.add(first)
    handing.presence.made(TEA, [ANN])
    assert len(await handing.done()) == 2, "nobody, rather than two"


async def test_it_waits_for_a_backend_and_no_longer_than_so(
    handing: Handing, caplog: pytest.LogCaptureFixture
) -> None:
    handing.presence.made(TEA, [ANN])
    handing.presence.heard("1", WANTS)
    assert await handing.done() == ["1"]
    handing.deaf.add("1")
    handing.presence.made(TEA, [ANN])
    assert await handing.done() == ["1"]
    handing.presence.heard("2", WANTS)
    assert await handing.done() == ["1", "2"]
    for node in "12":
        handing.presence.gone(node)
    handing.presence.heard("0", {"told": []})
    handing.presence.made(TEA, [ANN])
    assert handing.presence._waiting, "another may be about to come"
    now = handing.presence._waiting[0][0] + module.KEPT + 1
    handing.presence.tick(now)
    handing.presence.heard("3", WANTS)
    assert await handing.done() == ["1", "2"]
    assert "No backend was there" in caplog.text
    handing.presence.gone("3")
    handing.presence.tick(now + module.KEPT)
    handing.presence.made(TEA, [ANN])
    assert not handing.presence._waiting, "there were handlers long ago"


async def test_what_one_did_not_hear_it_is_told_once_it_hears_again(handing: Handing) -> None:
    handing.presence.heard("1", WANTS)
    handing.deaf.add("1")
    handing.presence.made(TEA, [ANN])
    assert await handing.done() == []
    handing.deaf.clear()
    handing.presence.heard("1", WANTS)
    assert await handing.done() == ["1"]
    handing.presence.heard("1", WANTS)
    assert await handing.done() == ["1"]


@pytest.mark.parametrize(
    "told", [{}, [["/"]], [["", "tea"]], [["/", "a*b"]], [[1, "tea"]], [["/", "a"]] * 1001]
)
def test_patterns_that_cannot_be_are_malformed(told: object) -> None:
    with pytest.raises(MalformedEnvelope):
        read_patterns({"told": told})


async def test_who_is_not_here_is_nobody_and_nobody_is_told_of_them(handing: Handing) -> None:
    """They may have left since they were asked to join."""
    handing.presence.heard("1", WANTS)
    handing.presence.entering(TEA, [Entry("gone", "ann")])
    handing.presence.absent(TEA, ["gone"])
    assert handing.presence._entering == {}
    socket = cast("Socket", Handing)
    assert handing.presence.user_of(socket, "tea") is None
    assert not handing.presence.holds(socket)


async def test_what_the_handlers_of_the_edge_itself_are_told_is_handed_to_no_backend() -> None:
    rooms = RoomManager()
    rooms.presence("tea").on("leave")(lambda _: None)
    async with rooms:
        handing = Handing(rooms)
        handing.presence.heard("1", {"told": [["/", "*"]]})
        handing.presence.made(TEA, [ANN])
        handing.presence.made(RUM, [ANN])
        assert await handing.done() == ["1"]
        assert handing.got[0][1].room == "rum"


NOT_USERS: tuple[Any, ...] = (1, 0, None, False, [], {}, ["ann"], "x" * 256)


@pytest.mark.parametrize(
    "users",
    [[], {"a*b": "ann"}, {"": "ann"}, *({"tea": each} for each in NOT_USERS)],
)
def test_users_that_cannot_be_are_malformed(users: object) -> None:
    with pytest.raises(MalformedEnvelope):
        read_users({"users": users})


def test_a_user_may_be_nobody() -> None:
    assert dict(read_users({"users": {"tea": "", "r*": "ann"}}).items()) == {"tea": "", "r*": "ann"}
