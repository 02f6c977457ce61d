"""Joins and leaves of all kinds in any order: exactly the members are present at the end."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from fastapi_rooms import AdapterUnavailable, JoinRefused, RoomManager, Socket, SocketClosed
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Cluster, eventually
from fastapi_rooms.worker import crowds
from tests.unit.presence.support import AWAY, CarrierInHand

ROOMS = ["chat-tea", "chat-rum"]
STEPS = 60


@pytest.mark.parametrize("seed", range(12))
async def test_exactly_the_members_are_present(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "LEAVE_SLICE", 1)
    monkeypatch.setattr("fastapi_rooms.presence.keeper.RETRY", 0.005)
    chance = random.Random(seed)
    carrier = CarrierInHand()
    manager = RoomManager(carrier, linger=0, join_timeout=5)
    presence = manager.presence("chat-*", user="name", grace=0)
    joins: set[asyncio.Task[None]] = set()

    @manager.authorize("chat-*")
    async def may(socket: Socket, room: str) -> bool:
        await asyncio.sleep(0)
        return chance.random() > 0.2

    async def join(socket: Socket) -> None:
        with suppress(AdapterUnavailable, JoinRefused, SocketClosed):
            await socket.join(chance.choice(ROOMS))

    async with Cluster(1, of=manager, adapter=lambda: carrier) as cluster:
        rooms = cluster[0]
        here, present = rooms._here, presence.of(rooms)
        everybody = Target(("lobby",))
        members = [
            await cluster.member(rooms, "lobby", data={"name": f"user{number % 3}"})
            for number in range(5)
        ]

        async def put() -> None:
            with suppress(AdapterUnavailable):
                await here.join_crowd(here.crowd(everybody), (chance.choice(ROOMS),))

        for _ in range(STEPS):
            socket = chance.choice(members).socket
            match chance.randrange(9):
                case 0 | 1 | 2:
                    joins.add(asyncio.create_task(join(socket)))
                case 3:
                    await socket.leave(chance.choice(ROOMS))
                case 4 if joins:
                    chance.choice(sorted(joins, key=lambda task: task.get_name())).cancel()
                case 5:
                    joins.add(asyncio.create_task(put()))
                case 6:
                    here.leave_crowd(here.crowd(everybody), (chance.choice(ROOMS),))
                case 7:
                    (carrier.hold if chance.random() < 0.5 else carrier.release)()
                case _:
                    carrier.errors = {} if carrier.errors else {"change": AWAY}
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)
        carrier.errors = {}
        carrier.release()
        if joins:
            await asyncio.wait(joins)
        keeper = rooms._runtime.presence.running

        async def is_so() -> bool:
            for room in ROOMS:
                found = {sid for user in (await present.users(room)).users for sid in user.sids}
                if found != set(rooms.rooms.get(room, ())):
                    return False
            return all(room.is_told for room in keeper._rooms.values())

        await eventually(is_so, what="exactly the members are present")
        assert not here.presences._entering
        await rooms.to("lobby").sockets_leave(*ROOMS)
        await eventually(lambda: not keeper._rooms, what="nothing is kept")
        assert not here.presences._versions
