"""Everything that can happen to Redis or the way to it, while two workers talk without a pause.

Each fault is one function, which returns when Redis answers again, and the row above it says what
is noticed of it, by whom. `test_rooms_come_back_after` does the rest, the same for all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import pytest
import redis

from fastapi_rooms.testing import Direction, RedisServer, eventually
from tests.faults.scene import ROOM, Scene, Worker, lines_of, scene
from tests.faults.support import busy

SOON = {"publish_timeout": 1.5, "connect_timeout": 1.5, "probe_interval": 0.25}
"""Settings for faults that nothing but the lack of an answer tells of, for those who notice.

No shorter, and for nobody else: a machine that is busy with other things for as long is a fault to
whoever does not wait for longer.
"""

Happening = Callable[[Scene], Awaitable[None]]


class Fault(NamedTuple):
    """A fault, and who notices: `near`, `far`, both or nobody."""

    happens: Happening
    noticed: str
    """Whose health turns red, and who writes a line when it begins and one when it is over."""
    gap: str
    """Who may have missed something, and is told so."""
    refused: str
    """Who may be refused to send something."""
    settings: dict[str, float]


FAULTS: dict[str, Fault] = {}
NOBODY, NEAR, FAR, BOTH = "", "near", "far", "near far"
PERHAPS_NEAR, PERHAPS_BOTH = "perhaps near", "perhaps near far"


def fault(
    noticed: str, gap: str, refused: str = NOBODY, settings: dict[str, float] | None = None
) -> Callable[[Happening], Happening]:
    """Enter a row into the table."""

    def enter(happens: Happening) -> Happening:
        name = happens.__name__.replace("_", " ")
        FAULTS[name] = Fault(happens, noticed, gap, refused, settings or {})
        return happens

    return enter


# Connections break.


@fault(noticed=BOTH, gap=NOBODY)
async def publishing_connections_are_killed(scene: Scene) -> None:
    scene.server.kill_connections("normal")
    await scene.is_noticed(*scene.workers)


@fault(noticed=BOTH, gap=BOTH)
async def subscribing_connections_are_killed(scene: Scene) -> None:
    scene.server.kill_connections("pubsub")
    await scene.is_noticed(*scene.workers)


@fault(noticed=BOTH, gap=BOTH)
async def all_connections_are_killed(scene: Scene) -> None:
    scene.server.kill_connections()
    await scene.is_noticed(*scene.workers)


@fault(noticed=NEAR, gap=NEAR)
async def the_connections_of_one_worker_are_reset(scene: Scene) -> None:
    scene.near.wire.cut()
    await scene.is_noticed(scene.near)


@fault(noticed=BOTH, gap=BOTH)
async def connections_are_refused_for_a_while(scene: Scene) -> None:
    for worker in scene.workers:
        worker.wire.refuse()
    await scene.is_red(*scene.workers)
    for worker in scene.workers:
        await worker.wire.accept()


@fault(noticed=BOTH, gap=BOTH)
async def redis_has_too_many_clients(scene: Scene) -> None:
    scene.server.admin.config_set("maxclients", 1)
    scene.server.kill_connections()
    await scene.is_red(*scene.workers)
    accepted = [worker.wire.accepted for worker in scene.workers]
    for worker, before in zip(scene.workers, accepted, strict=True):
        await eventually(partial(has_tried_again, worker, before))
    assert not any(worker.rooms.health.ready for worker in scene.workers)
    scene.server.admin.config_set("maxclients", 1000)


def has_tried_again(worker: Worker, before: int) -> bool:
    return worker.wire.accepted > before + 2


# Connections are up, and nothing moves on them.


@fault(noticed=NEAR, gap=PERHAPS_NEAR, refused=NEAR, settings=SOON)
async def the_network_of_one_worker_goes_dead(scene: Scene) -> None:
    scene.near.wire.stall()
    await scene.is_red(scene.near)
    scene.near.wire.resume()


@fault(noticed=NEAR, gap=PERHAPS_NEAR, refused=NEAR, settings=SOON)
async def the_way_to_redis_goes_dead(scene: Scene) -> None:
    scene.near.wire.stall(Direction.TO_SERVER)
    await scene.is_red(scene.near)
    scene.near.wire.resume(Direction.TO_SERVER)


@fault(noticed=NEAR, gap=PERHAPS_NEAR, refused=NEAR, settings=SOON)
async def the_way_from_redis_goes_dead(scene: Scene) -> None:
    scene.near.wire.stall(Direction.TO_CLIENT)
    await scene.is_red(scene.near)
    scene.near.wire.resume(Direction.TO_CLIENT)


@fault(noticed=NEAR, gap=NEAR, refused=NEAR, settings=SOON | {"probe_interval": 60})
async def the_connections_of_one_worker_go_dead(scene: Scene) -> None:
    for connection in scene.near.wire.connections:
        connection.stall()
    await scene.is_noticed(scene.near)


@fault(noticed=NEAR, gap=NOBODY, refused=NEAR, settings=SOON)
async def a_publishing_connection_goes_dead(scene: Scene) -> None:
    scene.connection(scene.near, "normal").stall()
    await scene.is_noticed(scene.near)


@fault(noticed=NEAR, gap=NEAR, settings=SOON)
async def a_subscribing_connection_goes_dead(scene: Scene) -> None:
    scene.connection(scene.near, "pubsub").stall()
    await scene.is_noticed(scene.near)


# Redis is busy with itself.


@fault(noticed=NOBODY, gap=NOBODY)
async def redis_is_frozen_for_a_second(scene: Scene) -> None:
    scene.server.freeze()
    await asyncio.sleep(1)  # the fault itself takes so long
    scene.server.thaw()


@fault(noticed=BOTH, gap=PERHAPS_BOTH, refused=BOTH, settings=SOON)
async def redis_is_frozen_until_the_worker_reconnects(scene: Scene) -> None:
    scene.server.freeze()
    await scene.is_red(*scene.workers)
    scene.server.thaw()


@fault(noticed=BOTH, gap=NOBODY, refused=BOTH)
async def redis_is_busy_with_a_script(scene: Scene) -> None:
    async with busy(scene.server):
        await scene.is_red(*scene.workers)


@fault(noticed=BOTH, gap=BOTH, refused=BOTH)
async def connections_are_reset_while_redis_is_busy_with_a_script(scene: Scene) -> None:
    async with busy(scene.server):
        for worker in scene.workers:
            worker.wire.cut()
        for worker in scene.workers:
            await eventually(partial(is_refused_anew, worker, len(worker.talk.refused)))
        assert not any(worker.rooms.health.ready for worker in scene.workers)


def is_refused_anew(worker: Worker, before: int) -> bool:
    return len(worker.talk.refused) > before


# Redis goes.


@fault(noticed=BOTH, gap=BOTH)
async def redis_is_restarted_empty(scene: Scene) -> None:
    await asyncio.to_thread(scene.server.restart)


@fault(noticed=BOTH, gap=BOTH)
async def redis_is_restarted_and_loads_its_data(scene: Scene) -> None:
    for number in range(20):
        scene.server.admin.set(f"key {number}", os.urandom(1024 * 1024))
    scene.server.admin.save()
    await asyncio.to_thread(scene.server.restart)
    assert scene.server.admin.info("persistence")["loading"] == 1


@fault(noticed=BOTH, gap=BOTH)
async def redis_is_stopped_and_started_later(scene: Scene) -> None:
    await asyncio.to_thread(scene.server.stop)
    await scene.is_red(*scene.workers)
    await asyncio.to_thread(scene.server.start)


# Redis has had enough.


@fault(noticed=BOTH, gap=BOTH)
async def a_message_of_4_mib_breaks_the_output_buffers(scene: Scene) -> None:
    scene.server.admin.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    await scene.near.rooms.to(ROOM).send_bytes(bytes(4 * 1024 * 1024))
    await scene.is_noticed(*scene.workers)


@fault(noticed=FAR, gap=FAR)
async def a_worker_that_lags_behind_breaks_its_output_buffer(scene: Scene) -> None:
    scene.server.admin.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    subscriber = scene.connection(scene.far, "pubsub")
    subscriber.stall(Direction.TO_CLIENT)
    for _ in range(64):  # what the buffers of the kernel hold, and more
        await scene.near.rooms.to(ROOM).send_bytes(bytes(256 * 1024))
    await eventually(lambda: len(scene.server.connections("pubsub")) == 1)
    await scene.near.talk.goes_on()
    subscriber.resume(Direction.TO_CLIENT)
    await scene.is_noticed(scene.far)


@fault(noticed=NOBODY, gap=NOBODY)
async def redis_is_out_of_memory(scene: Scene) -> None:
    scene.server.admin.config_set("maxmemory-policy", "noeviction")
    scene.server.admin.config_set("maxmemory", 1)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        scene.server.admin.set("key", "value")


@fault(noticed=NOBODY, gap=NOBODY)
async def redis_is_emptied(scene: Scene) -> None:
    scene.server.admin.flushall()


@pytest.mark.parametrize("name", FAULTS)
async def test_rooms_come_back_after(name: str, caplog: pytest.LogCaptureFixture) -> None:
    fault = FAULTS[name]
    async with (
        RedisServer(arguments=("--key-load-delay", "20000")) as server,
        scene(server, dict.fromkeys(fault.noticed.split(), fault.settings)) as s,
    ):
        await fault.happens(s)
        await s.flows()
    s.judge()
    told = [worker.name for worker in s.workers if worker.name in fault.noticed]
    assert lines_of(caplog.records) == sorted(
        ["ERROR Redis is out of reach"] * len(told) + ["WARNING Redis is back"] * len(told)
    )
    for worker in s.workers:
        missed = worker.name in fault.gap
        assert (worker.health.since > s.began) == (worker.name in fault.noticed)
        assert len(worker.gaps) == worker.health.reconnects
        assert len(worker.gaps) in ((0, 1) if missed and "perhaps" in fault.gap else (missed,))
        assert bool(worker.talk.refused) == (worker.name in fault.refused)
        # A worker's signs of life to the other are counted as well, if they could not be sent.
        assert 0 <= worker.health.dropped - len(worker.talk.refused) <= 2
        assert worker.health.buffered == 0
