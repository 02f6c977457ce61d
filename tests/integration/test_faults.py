"""Redis fails, or a worker does, while clients on real workers talk without a pause."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
from websockets.exceptions import ConnectionClosed

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import heard
from tests.integration.servers import Start, starter, uvicorn
from tests.integration.speakers import speaking
from tests.integration.workers import Connect, Workers


async def kill_connections(server: RedisServer) -> None:
    assert server.kill_connections() == 4


async def restart(server: RedisServer) -> None:
    await asyncio.to_thread(server.restart)


async def freeze(server: RedisServer) -> None:
    server.freeze()
    await asyncio.sleep(1)  # the fault itself takes so long
    server.thaw()


@pytest.fixture(scope="module")
def shaken_redis() -> Iterator[RedisServer]:
    """A Redis for the tests of this module, one after the other."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def workers(
    shaken_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Two workers of one server, on that Redis."""
    with starter(tmp_path_factory.mktemp("servers")) as start:
        yield Workers.of(start(uvicorn("--workers", "2"), ROOMS_URL=shaken_redis.url), 2)


@pytest.mark.parametrize(
    ("fault", "is_noticed"), [(kill_connections, True), (restart, True), (freeze, False)]
)
async def test_real_workers_come_back_after(
    fault: Callable[[RedisServer], Awaitable[None]],
    is_noticed: bool,
    shaken_redis: RedisServer,
    workers: Workers,
    connect: Connect,
) -> None:
    complaints = len(workers.server(0).complaints)
    gaps_before = [len((await workers.state(worker))["gaps"]) for worker in (0, 1)]
    ann, bob = [await workers.connect(connect, worker) for worker in (0, 1)]
    for client in (ann, bob):
        await client.socket.join("tea")
    async with speaking(ann.socket.to("tea"), bob.socket.to("tea")) as (of_ann, of_bob):
        await fault(shaken_redis)
        for worker, before in enumerate(gaps_before):
            await eventually(partial(is_whole, workers, worker, before + is_noticed))
        whole = time.time()
    (by_ann,), (by_bob,) = await heard(bob, ann), await heard(ann, bob)

    for worker, speaker, hearing in ((1, of_ann, by_bob), (0, of_bob, by_ann)):
        gaps = (await workers.state(worker))["gaps"][gaps_before[worker] :]
        said = [*speaker.said]
        assert speaker.refused == []
        assert hearing == [text for text in said if text in {*hearing}], "in order, nothing twice"
        for text in {*said} - {*hearing}:
            begun, answered = speaker.said[text]
            assert begun < whole, f"{text}, said when all was well again, is missing"
            assert any(gap[0] <= answered and begun <= gap[1] for gap in gaps), f"{text} is missing"
        assert bool(gaps) is is_noticed
    lines = workers.server(0).complaints[complaints:]
    levels = [line.partition(" ")[0] for line in lines]
    assert levels.count("ERROR") == levels.count("WARNING") == len(levels) / 2
    assert bool(levels) is is_noticed


async def is_whole(workers: Workers, worker: int, gaps: int) -> bool:
    """Whether the worker has come back, and has been told of so many gaps."""
    state = await workers.state(worker)
    return bool(state["ready"]) and len(state["gaps"]) >= gaps


async def test_the_clients_of_a_killed_worker_come_back_and_it_leaves_nothing_in_redis(
    own_redis: RedisServer, start: Start, connect: Connect
) -> None:
    server = start(uvicorn("--workers", "2"), ROOMS_URL=own_redis.url)
    workers = await asyncio.to_thread(Workers.of, server, 2)
    ann, cid, bob = [await workers.connect(connect, worker) for worker in (0, 0, 1)]
    for client in (ann, bob, cid):
        await client.socket.join("tea")
    async with speaking(ann.socket.to("tea")) as (of_ann,):
        os.kill(bob.worker, signal.SIGKILL)
        await bob.closed()
        with pytest.raises(ConnectionClosed):
            await bob.rooms.send_text("are you there?")
        bob = await connect(server)  # whoever of the workers takes it
        await bob.socket.join("tea")
        (replacement,) = await asyncio.to_thread(
            server.wait_for_workers, other_than=frozenset(workers.pids)
        )
        workers = Workers({ann.worker: server, replacement: server})
        dan = await workers.connect(connect, 1)
        await dan.socket.join("tea")
        since = time.time()
    by_bob, by_cid, by_dan = await heard(ann, bob, cid, dan)
    said = [*of_ann.said]
    assert of_ann.refused == []
    assert by_cid == said
    for hearing in (by_bob, by_dan):
        assert hearing == said[-len(hearing) :], "from when it came back on, all of it"
        assert {text for text in said if of_ann.said[text][0] > since} <= {*hearing}
    assert own_redis.numsub("rooms#/#tea#") == 2
    assert len(own_redis.connections()) == 4
    assert own_redis.admin.keys("*") == []

    for client in (ann, bob, cid, dan):
        await client.close()
    await eventually(lambda: own_redis.numsub("rooms#/#tea#") == 0)
    assert server.complaints == []
    assert await asyncio.to_thread(server.stop) == 0
    assert own_redis.channels() == []
    assert own_redis.connections() == []
