"""The verbs over every worker, on three real servers, of which one is killed or frozen."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from fastapi_rooms import RequestTimeout, RoomManager, WorkerLost
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, Refused, heard
from tests.integration.servers import Start, starter, uvicorn
from tests.integration.workers import Connect, Workers


def three_workers(start: Start, redis: RedisServer) -> Workers:
    """Three servers of one worker each."""
    return Workers.each_of([start(uvicorn(), ROOMS_URL=redis.url) for _ in range(3)])


@pytest.fixture(scope="module")
def workers(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Those of the module; whoever freezes one has it go on."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield three_workers(start, redis)


async def people(workers: Workers, connect: Connect) -> list[Client]:
    """One client on each worker, all of them in the lobby."""
    clients = [await workers.connect(connect, number) for number in range(3)]
    for client in clients:
        await client.socket.join("lobby")
    return clients


def sids(sockets: list[dict[str, Any]]) -> set[str]:
    return {socket["sid"] for socket in sockets}


async def test_every_verb_answers_the_same_from_any_worker(
    workers: Workers, connect: Connect
) -> None:
    clients = await people(workers, connect)
    ann, bob, cid = clients
    await cid.socket.join("bar")
    everyone = {client.sid for client in clients}
    for client in clients:
        assert sids(await client.rooms.fetch_sockets()) == everyone
        assert await client.rooms.to("lobby").except_("bar").count() == 2
        assert set(await client.rooms.all_rooms()) == {*everyone, "lobby", "bar"}
        assert len(await client.rooms.nodes()) == 3
        replies = await client.rooms.server_side_emit_with_ack("who", 1)
        others = {other.worker for other in clients if other is not client}
        assert {tuple(reply["value"]) for reply in replies} == {(pid, 1) for pid in others}
    for number in range(40):
        await ann.rooms.to(cid.sid).sockets_join(f"room {number}")
        await ann.rooms.to(f"room {number}").send_text(str(number))
    assert await heard(ann, cid) == [[str(number) for number in range(40)]]
    await bob.rooms.to("bar").send_text("last")
    await bob.rooms.to("bar").disconnect_sockets(4000, "out")
    assert await cid.next() == "last"
    assert await cid.closed() == 4000
    assert sids(await ann.rooms.fetch_sockets()) == {ann.sid, bob.sid}


async def test_a_killed_worker_is_not_waited_for(
    own_redis: RedisServer, start: Start, connect: Connect
) -> None:
    workers = three_workers(start, own_redis)
    ann, bob, cid = await people(workers, connect)
    os.kill(cid.worker, signal.SIGKILL)
    assert sids(await ann.rooms.fetch_sockets()) == {ann.sid, bob.sid}, "no RequestTimeout"
    assert await bob.rooms.to("lobby").count() == 2
    for client in (ann, bob):
        assert len(await client.rooms.nodes()) == 2


async def test_a_killed_worker_is_lost_once_on_every_other_and_one_that_stops_or_comes_back_is_not(
    own_redis: RedisServer, start: Start, connect: Connect
) -> None:
    interval = 1.0
    servers = [start(uvicorn(), ROOMS_URL=own_redis.url, HEARTBEAT=str(interval)) for _ in "ab"]
    workers = Workers.each_of(servers)
    survivors = [RoomManager(own_redis.url, heartbeat=interval) for _ in range(2)]
    told: list[list[WorkerLost]] = [[], []]
    for rooms, mine in zip(survivors, told, strict=True):
        rooms.on("worker-lost")(mine.append)
        rooms.of("/chat").on("worker-lost")(mine.append)
    async with survivors[0] as rooms, survivors[1]:
        ann = await workers.connect(connect, 0)
        await ann.socket.join("tea", "bar")
        [node] = [socket.node for socket in await rooms.fetch_sockets()]
        known = [each._runtime.run.cluster._known_rooms for each in survivors]
        await eventually(lambda: {of.of(node, "/") for of in known} == {("bar", "tea")})

        assert own_redis.kill_connections() == 8
        await eventually(lambda: len(own_redis.connections()) == 8)
        for server in servers:  # else its goodbye would be lost
            await asyncio.to_thread(server.wait_for_workers)
        await eventually(lambda: all(each.health.connected for each in survivors))
        await eventually(lambda: all(len(each.nodes()) == 4 for each in survivors))
        await asyncio.to_thread(servers[1].stop)
        await eventually(lambda: all(len(each.nodes()) == 3 for each in survivors))
        os.kill(ann.worker, signal.SIGKILL)
        await eventually(lambda: [len(mine) for mine in told] == [2, 2])
    for rooms, mine in zip(survivors, told, strict=True):
        assert mine == [WorkerLost(node, ("bar", "tea")), WorkerLost(node, ())]
        assert [lost.namespace for lost in mine] == [rooms, rooms.of("/chat")]


async def test_a_frozen_worker_is_named_with_the_answers_of_the_others(
    workers: Workers, connect: Connect
) -> None:
    ann, bob, cid = await people(workers, connect)
    [node] = [s["node"] for s in await ann.rooms.fetch_sockets() if s["sid"] == cid.sid]
    os.kill(cid.worker, signal.SIGSTOP)
    try:
        with pytest.raises(Refused, match="RequestTimeout") as caught:
            await ann.rooms.fetch_sockets(timeout=2)
        assert sids(caught.value.details["partial"]) == {ann.sid, bob.sid}
        assert caught.value.details["silent"] == [node]
    finally:
        os.kill(cid.worker, signal.SIGCONT)
    assert sids(await bob.rooms.fetch_sockets()) == {ann.sid, bob.sid, cid.sid}


async def test_a_worker_that_was_frozen_before_anyone_knew_it_is_not_silently_left_out(
    workers: Workers, connect: Connect, redis: RedisServer
) -> None:
    _, _, cid = await people(workers, connect)
    os.kill(cid.worker, signal.SIGSTOP)
    try:
        async with RoomManager(redis.url, observer=True) as observer:
            assert len(observer.nodes()) == 2
            with pytest.raises(RequestTimeout, match="1 unidentified") as caught:
                await observer.count(timeout=1)
            assert caught.value.partial == 2
            os.kill(cid.worker, signal.SIGCONT)
            assert await observer.count(timeout=60) == 3
    finally:
        os.kill(cid.worker, signal.SIGCONT)
