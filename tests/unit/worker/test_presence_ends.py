"""A run ends: the last leaves are made, and told, while handlers can still do something."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from fastapi_rooms import PresenceEvent, RoomManager
from fastapi_rooms.adapters.presence import RoomKey
from fastapi_rooms.presence.host import Name
from fastapi_rooms.testing import eventually
from fastapi_rooms.testing.cluster import Member
from tests.unit.presence.support import AWAY, CarrierInHand
from tests.unit.support import other_tasks

ROOM = "chat-tea"
KEY = RoomKey(Name("/", ROOM).key, b"")


class Scene:
    """One worker, and the leaves that its handler for one worker of all has dealt with."""

    def __init__(self, *, drain_timeout: float = 60) -> None:
        self.carrier = CarrierInHand()
        self.rooms = RoomManager(self.carrier, linger=0, drain_timeout=drain_timeout)
        self.may_finish = asyncio.Event()
        self.began: list[str] = []
        self.finished: list[str] = []
        presence = self.rooms.presence("chat-*", user="name", grace=0)

        @presence.on("leave", one_worker=True)
        async def left(event: PresenceEvent) -> None:
            self.began.append(event.user)
            await self.may_finish.wait()
            await event.namespace.to("admins").send_text(event.user)
            if await presence.is_present(event.user, event.room) is False:
                self.finished.append(event.user)

    def member(self, name: str) -> Member:
        return Member(self.rooms, ROOM, data={"name": name})


async def test_handlers_of_the_last_leaves_may_ask_and_send_and_are_waited_for() -> None:
    scene = Scene()
    await scene.rooms.start()
    async with AsyncExitStack() as members:
        for name in ("ann", "bob", "cem"):
            await members.enter_async_context(scene.member(name))
        scene.carrier.hold()
        stopping = asyncio.create_task(scene.rooms.stop())
        await eventually(lambda: scene.carrier.waiting == 1, what="all have left here")
        scene.carrier.release()
        await eventually(lambda: sorted(scene.began) == ["ann", "bob", "cem"])
        scene.may_finish.set()
        await stopping
        assert sorted(scene.finished) == ["ann", "bob", "cem"]
        assert await scene.carrier.count(KEY) == 0
    assert not other_tasks()


async def test_who_is_on_the_way_in_as_a_run_ends_has_left_when_it_is_over() -> None:
    scene = Scene()
    scene.may_finish.set()
    await scene.rooms.start()
    member = scene.member("ann")
    scene.carrier.hold()
    opening = asyncio.create_task(member.open())
    await eventually(lambda: scene.carrier.waiting == 1, what="it is about to join")
    scene.rooms._here.leave_everyone()  # as when it could not be drained in time
    assert not scene.rooms._runtime.presence.running.has(Name("/", ROOM))
    scene.carrier.release()
    await scene.rooms.stop()
    assert scene.finished == ["ann"]
    assert await scene.carrier.count(KEY) == 0
    await asyncio.gather(opening, return_exceptions=True)
    await asyncio.gather(member.close(), return_exceptions=True)
    assert not other_tasks()


async def test_a_carrier_that_is_away_holds_up_the_end_for_as_long_as_it_may() -> None:
    scene = Scene(drain_timeout=0.05)
    await scene.rooms.start()
    async with scene.member("ann"):
        scene.carrier.errors["change"] = AWAY
        await scene.rooms.stop()
        assert scene.began == []
    assert not other_tasks()
