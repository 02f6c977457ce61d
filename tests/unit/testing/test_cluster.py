"""Several workers in one process."""

from __future__ import annotations

import asyncio

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import MemoryAdapter, MemoryBus, NotStarted, OutboxPolicy
from fastapi_rooms.testing import Cluster, Member


async def test_workers_of_one_cluster_hear_each_other_and_no_other_cluster() -> None:
    async with Cluster(workers=2) as cluster, Cluster(workers=1) as (other,):
        one, two = cluster
        assert (len(cluster), cluster[1]) == (2, two)
        ann = await cluster.member(one, "lobby")
        bob = await cluster.member(two, "lobby", data={"name": "bob"})
        await other.to("lobby").send_text("from another world")
        await ann.socket.to("lobby").send_text("hello")
        assert await bob.receive_until("hello") == []
        assert bob.socket.data == {"name": "bob"}


async def test_its_members_leave_and_its_workers_stop_at_the_end() -> None:
    before = asyncio.all_tasks()
    async with Cluster(workers=2) as cluster:
        members = [await cluster.member(worker, "lobby") for worker in cluster]
    assert asyncio.all_tasks() == before
    assert all(member.close_code == 1000 for member in members)
    assert not cluster[0].health.ready
    with pytest.raises(NotStarted):
        await cluster[0].send_text("too late")


async def test_members_leave_before_the_managers_close() -> None:
    left: list[str] = []
    async with Cluster(workers=1) as cluster:
        cluster[0].on("disconnect")(lambda socket: left.append(socket.sid))
        member = await cluster.member(cluster[0])
    assert left == [member.sid]


async def test_adapter_and_settings_are_passed_on() -> None:
    bus = MemoryBus()
    async with Cluster(
        workers=2, adapter=lambda: MemoryAdapter(bus, prefix="app"), outbox=OutboxPolicy(7)
    ) as cluster:
        await cluster.member(cluster[0], "lobby")
        assert bus.subscriptions(b"app#/#lobby#") == 1
        assert cluster[1].outbox.max_bytes == 7


async def test_a_worker_that_cannot_start_stops_those_that_did() -> None:
    class Broken(MemoryAdapter):
        async def start(self, *args: object) -> None:
            raise ZeroDivisionError

    bus = MemoryBus()
    adapters = iter((MemoryAdapter(bus), Broken(bus)))
    cluster = Cluster(workers=2, adapter=lambda: next(adapters))
    with pytest.raises(ZeroDivisionError):
        await cluster.__aenter__()
    assert not cluster[0].health.ready


async def test_a_member_reads_and_leaves_like_any_client() -> None:
    async with Cluster(workers=1) as cluster:
        rooms = cluster[0]
        async with Member(rooms, "lobby", sid="ann") as ann, Member(rooms.of("/chat")) as bob:
            assert rooms.rooms.keys() == {"lobby", "ann"}
            await ann.send_text("nobody reads this")
            await rooms.of("/chat").to(bob.sid).send_bytes(b"hello")
            assert await bob.receive_bytes() == b"hello"
            await ann.socket.websocket.close(4000)
            with pytest.raises(WebSocketDisconnect):
                await ann.receive()
            await ann.wait_ended()
            assert not rooms.rooms
