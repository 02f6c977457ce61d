"""Who is in a room is present there, and nobody else, whatever becomes of joins and leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    ConfigurationError,
    JoinRefused,
    Presence,
    RoomManager,
    Socket,
    UsageError,
)
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Cluster, eventually
from fastapi_rooms.testing.cluster import Member
from fastapi_rooms.worker import crowds
from fastapi_rooms.worker import presences as module
from tests.unit.presence.support import AWAY, CarrierInHand

ROOM = "chat-tea"


class Scene(NamedTuple):
    """One worker, and what is behind it."""

    rooms: RoomManager
    presence: Presence
    carrier: CarrierInHand
    cluster: Cluster

    async def member(self, name: object, *rooms: str, sid: str | None = None) -> Member:
        """Somebody who is in some rooms."""
        data = {} if name is None else {"name": name}
        return await self.cluster.member(self.rooms, *rooms, sid=sid, data=data)

    async def is_settled(self) -> None:
        """Wait until exactly the members are present, and the carrier is told of nothing more."""

        async def is_so() -> bool:
            keeper = self.rooms._runtime.presence.running
            if self.rooms._here.joins.pending._in_order or any(
                not room.is_told for room in keeper._rooms.values()
            ):
                return False
            found = await self.presence.users(ROOM)
            return {sid for user in found.users for sid in user.sids} == set(
                self.rooms.rooms.get(ROOM, ())
            )

        await eventually(is_so, what="exactly the members are present")
        assert not self.rooms._here.presences._entering


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    carrier = CarrierInHand()
    manager = RoomManager(carrier, join_timeout=5, linger=0)
    presence = manager.presence("chat-*", user="name", grace=0)
    cluster = Cluster(1, of=manager, adapter=lambda: carrier)
    async with cluster:
        yield Scene(cluster[0], presence.of(cluster[0]), carrier, cluster)
        carrier.release()


async def held(scene: Scene) -> None:
    await eventually(lambda: scene.carrier.waiting == 1, what="a change is held")


async def test_a_join_that_is_given_up_leaves_nobody_though_another_is_refused_then(
    scene: Scene,
) -> None:
    decided, asked = asyncio.Event(), 0

    @scene.rooms.authorize("chat-*")
    async def may(socket: Socket, room: str) -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            await decided.wait()
            return False
        return True

    ann = await scene.member("ann")
    scene.carrier.hold()
    first = asyncio.create_task(ann.socket.join(ROOM))
    await held(scene)
    second = asyncio.create_task(ann.socket.join(ROOM))
    await eventually(lambda: asked == 2)
    first.cancel()
    await asyncio.wait([first])
    decided.set()
    with pytest.raises(JoinRefused):
        await second
    scene.carrier.release()
    await scene.is_settled()
    assert await scene.presence.count(ROOM) == 0


async def test_who_is_put_into_a_room_is_present_though_their_own_join_was_given_up(
    scene: Scene,
) -> None:
    ann = await scene.member("ann", "lobby")
    scene.carrier.hold()
    own = asyncio.create_task(ann.socket.join(ROOM))
    put = asyncio.create_task(scene.rooms.to("lobby").sockets_join(ROOM))
    await held(scene)
    await eventually(lambda: len(scene.rooms._here.joins.pending._in_order) == 2)
    own.cancel()
    await asyncio.wait([own])
    scene.carrier.release()
    await put
    assert ROOM in ann.socket.rooms
    await scene.is_settled()
    assert await scene.presence.is_present("ann", ROOM)


async def test_who_comes_back_while_a_crowd_leaves_part_by_part_is_present(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowds, "LEAVE_SLICE", 1)
    members = [await scene.member(f"user{number}", ROOM, "lobby") for number in range(5)]
    here, last = scene.rooms._here, members[-1].socket
    left = here.leave_crowd(here.crowd(Target(("lobby",))), (ROOM,))
    assert left is not None
    await last.join(ROOM)
    await left
    await scene.is_settled()
    assert await scene.presence.is_present("user4", ROOM)
    assert await scene.presence.count(ROOM) == 1


async def test_a_crowd_may_leave_while_it_comes(scene: Scene) -> None:
    await scene.member("ann", "lobby")
    scene.carrier.hold()
    put = asyncio.create_task(scene.rooms.to("lobby").sockets_join(ROOM))
    await held(scene)
    await scene.rooms.to("lobby").sockets_leave(ROOM)
    scene.carrier.release()
    await put
    await scene.is_settled()
    assert await scene.presence.count(ROOM) == 0


@pytest.mark.parametrize("how", ["leave", "disconnect", "lost", "cancelled"])
async def test_who_goes_while_entering_is_not_present(scene: Scene, how: str) -> None:
    ann = await scene.member("ann", "lobby")
    scene.carrier.hold()
    join = asyncio.create_task(ann.socket.join(ROOM))
    await held(scene)
    if how == "leave":
        await ann.socket.leave(ROOM)
    elif how == "disconnect":
        await ann.socket.disconnect()
    elif how == "lost":
        await ann.close()
    else:
        join.cancel()
    scene.carrier.release()
    await asyncio.wait([join])
    if not join.cancelled():
        join.exception()
    await scene.is_settled()
    assert await scene.presence.count(ROOM) == 0


async def test_two_joins_of_one_socket_at_once_are_one_presence(scene: Scene) -> None:
    ann = await scene.member("ann")
    await asyncio.gather(ann.socket.join(ROOM), ann.socket.join(ROOM, "chat-x"))
    await scene.is_settled()
    assert await scene.presence.count(ROOM) == 1
    await ann.socket.leave(ROOM)
    await scene.is_settled()
    assert await scene.presence.count(ROOM) == 0


async def test_a_carrier_that_refuses_is_told_to_who_joins_and_nobody_is_present_then(
    scene: Scene,
) -> None:
    ann = await scene.member("ann")
    scene.carrier.errors["change"] = AWAY
    with pytest.raises(AdapterUnavailable, match="is away") as caught:
        await ann.socket.join(ROOM)
    assert caught.value.manager is scene.rooms
    del scene.carrier.errors["change"]
    await scene.is_settled()
    assert ROOM not in ann.socket.rooms


async def test_a_join_waits_no_longer_than_the_timeout_and_leaves_nobody() -> None:
    carrier = CarrierInHand()
    manager = RoomManager(carrier, join_timeout=0.05, linger=0, when_unavailable="admit")
    presence = manager.presence("chat-*", user="name", grace=0)
    async with Cluster(1, of=manager, adapter=lambda: carrier) as cluster:
        scene = Scene(cluster[0], presence.of(cluster[0]), carrier, cluster)
        ann = await scene.member("ann")
        carrier.hold()
        with pytest.raises(AdapterUnavailable, match=r"in 0\.05 s who is present"):
            await ann.socket.join(ROOM)
        carrier.release()
        await scene.is_settled()
        assert await scene.presence.count(ROOM) == 0


async def test_a_manager_that_closes_ends_the_joins_that_wait() -> None:
    carrier = CarrierInHand()
    manager = RoomManager(carrier, join_timeout=60, drain_timeout=0.05)
    presence = manager.presence("chat-*", user="name", grace=0)
    scene: Scene
    async with Cluster(1, of=manager, adapter=lambda: carrier) as cluster:
        scene = Scene(cluster[0], presence.of(cluster[0]), carrier, cluster)
        ann = await scene.member("ann")
        carrier.hold()
        join = asyncio.create_task(ann.socket.join(ROOM))
        await held(scene)
    with pytest.raises((AdapterUnavailable, UsageError)):
        await join
    assert not scene.rooms._here.presences._entering


# Who somebody is.


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (lambda socket: None, "is None, and a user is a string"),
        (lambda socket: "", "a user is a string of 1 to 255"),
        (lambda socket: "x" * 256, "a user is a string of 1 to 255"),
        (lambda socket: "\ud800", "a user is a string of 1 to 255"),
        (lambda socket: 7, "is 7, and a user is a string"),
        (lambda socket: asyncio.sleep(0), "coroutine"),
    ],
    ids=["None", "empty", "too long", "no UTF-8", "a number", "a coroutine"],
)
async def test_nonsense_for_a_user_is_refused(user: object, said: str) -> None:
    manager = RoomManager(CarrierInHand())
    presence = manager.presence("chat-*", user=user)  # type: ignore[arg-type]  # nonsense
    async with Cluster(1, of=manager) as cluster:
        ann = await cluster.member(cluster[0])
        with pytest.raises(UsageError, match=said):
            await ann.socket.join(ROOM)
        assert ann.socket.rooms == {ann.sid}
        assert await presence.of(cluster[0]).count(ROOM) == 0


async def test_a_user_function_cannot_be_async() -> None:
    async def who(socket: Socket) -> str:
        return "ann"

    with pytest.raises(ConfigurationError, match="not an async one"):
        RoomManager().presence("chat-*", user=who)  # type: ignore[arg-type]  # what is refused


async def test_a_user_function_that_raises_fails_the_join_and_nothing_else() -> None:
    def who(socket: Socket) -> str:
        name: str = socket.data["name"]
        return name

    manager = RoomManager()
    presence = manager.presence("chat-*", user=who)
    async with Cluster(1, of=manager) as cluster:
        nobody = await cluster.member(cluster[0])
        ann = await cluster.member(cluster[0], data={"name": "ann"})
        with pytest.raises(KeyError):
            await nobody.socket.join(ROOM)
        await ann.socket.join(ROOM)
        assert await presence.of(cluster[0]).count(ROOM) == 1


async def test_a_user_function_that_exits_fails_the_join_and_not_the_worker() -> None:
    def who(socket: Socket) -> str:
        raise SystemExit(3)

    manager = RoomManager()
    manager.presence("chat-*", user=who)
    async with Cluster(1, of=manager) as cluster:
        ann = await cluster.member(cluster[0])
        with pytest.raises(UsageError, match=r"`user` raised SystemExit\(3\)"):
            await ann.socket.join(ROOM)


async def test_of_a_crowd_those_who_are_nobody_are_passed_over_and_named(scene: Scene) -> None:
    members = [await scene.member(name, "lobby") for name in (None, "ann", "x" * 256, "bob")]
    here = scene.rooms._here
    with pytest.raises(UsageError, match="no 'name' in its data"):
        await here.join_crowd(here.crowd(Target(("lobby",))), (ROOM, "chat-two", "plain"))
    assert [ROOM in member.socket.rooms for member in members] == [False, True, False, True]
    assert await scene.presence.count(ROOM) == await scene.presence.count("chat-two") == 2
    await scene.is_settled()


async def test_a_crowd_of_nobody_else_raises_and_nobody_is_in(scene: Scene) -> None:
    nobody = await scene.member(None, "lobby")
    here = scene.rooms._here
    with pytest.raises(UsageError, match="no 'name' in its data"):
        await here.join_crowd(here.crowd(Target(("lobby",))), (ROOM,))
    assert ROOM not in nobody.socket.rooms
    await scene.is_settled()


async def test_who_somebody_is_is_found_out_at_each_join_and_not_later(scene: Scene) -> None:
    ann = await scene.member("ann", ROOM)
    ann.socket.data["name"] = "eve"
    assert await scene.presence.is_present("ann", ROOM)
    await ann.socket.leave(ROOM)
    await ann.socket.join(ROOM)
    await scene.is_settled()
    assert [u.user for u in (await scene.presence.users(ROOM)).users] == ["eve"]


async def test_a_sid_that_is_taken_again_is_present_once_its_new_owner_is_in(scene: Scene) -> None:
    old = await scene.member("ann", sid="tab")
    scene.carrier.hold()
    join = asyncio.create_task(old.socket.join(ROOM))
    await held(scene)
    await old.close()
    new = await scene.member("bob", sid="tab")
    again = asyncio.create_task(new.socket.join(ROOM))
    await eventually(lambda: scene.rooms._here.presences._entering.get((ROOM, "tab")) == 2)
    scene.carrier.release()
    await asyncio.wait([join, again])
    if not join.cancelled():
        join.exception()
    await scene.is_settled()
    assert [u.user for u in (await scene.presence.users(ROOM)).users] == ["bob"]


async def test_who_waits_no_longer_leaves_nothing_with_what_was_waited_for() -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    await module._until(done, loop.time())
    waiting = asyncio.ensure_future(module._until(done, loop.time() + 60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not done._callbacks
