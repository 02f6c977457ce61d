"""What can happen to RabbitMQ, while two workers talk without a pause.

Three of these harm everyone, so they have a RabbitMQ of their own, one after the other: it takes
seconds to start. The others are done to one virtual host of the shared one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable, Emitter, RabbitMQAdapter, RoomManager
from fastapi_rooms.testing import Proxy, RabbitMQProxy, RabbitMQServer, eventually
from fastapi_rooms.testing.suite import Station
from tests.faults.scene import Stage, Worker, two_workers

SOON: dict[str, Any] = {"publish_timeout": 1.5, "connect_timeout": 3.0, "probe_interval": 0.25}
"""Settings for faults that nothing but the lack of an answer tells of."""


@asynccontextmanager
async def stage(
    server: RabbitMQServer, vhost: str = "/", user: str = "guest", **options: Any
) -> AsyncIterator[Stage]:
    """Raise the curtain; at the end nothing may be left of the workers."""

    def adapter_of(wire: Proxy, name: str) -> RabbitMQAdapter:
        return RabbitMQAdapter(
            server.url_of(wire.host, wire.port, vhost=vhost, user=user), **options
        )

    async with two_workers(server, adapter_of) as workers:
        yield Stage(*workers)
    await eventually(lambda: server.queues(vhost) == [], what="no queue is left")
    await eventually(lambda: server.connections(vhost) == 0, what="no connection is left")


async def test_rooms_come_back_when_it_had_no_memory_was_frozen_and_was_killed(
    own_rabbitmq: RabbitMQServer,
) -> None:
    server = own_rabbitmq
    async with stage(server, **SOON) as scene:
        with server.memory_alarm():
            await scene.is_red(*scene.workers)
            reasons = {worker.rooms.health.reason for worker in scene.workers}
            assert all("takes nothing that is published" in reason for reason in reasons)
            assert all("memory" in reason for reason in reasons)
            for worker in scene.workers:
                await eventually(partial(_is_refused_more, worker, len(worker.talk.refused) + 5))
        await scene.flows()
        for speaker, hearer in ((scene.near, scene.far), (scene.far, scene.near)):
            late = set(hearer.heard_of(speaker)) & set(speaker.talk.refused)
            assert late == set(), "what was given up is not delivered later"

        server.freeze()
        await scene.is_red(*scene.workers)
        server.thaw()
        await scene.flows()

        server.kill()
        await scene.is_red(*scene.workers)
        await asyncio.to_thread(server.start)
        await scene.flows()
        assert all(worker.gaps for worker in scene.workers)
    scene.judge()


class TestInOneVirtualHost:
    """Faults that harm nobody else."""

    async def test_rooms_come_back_when_an_operator_closes_all_connections(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
    ) -> None:
        async with stage(rabbitmq_server, rabbitmq_vhost) as scene:
            assert rabbitmq_server.close_connections(rabbitmq_vhost) == 4
            await scene.is_noticed(*scene.workers)
            await scene.flows()
            assert all(worker.gaps for worker in scene.workers)
        scene.judge()

    async def test_rooms_come_back_when_an_operator_deletes_the_queues(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
    ) -> None:
        async with stage(rabbitmq_server, rabbitmq_vhost) as scene:
            for queue in rabbitmq_server.queues(rabbitmq_vhost):
                if not queue.endswith(".lost"):
                    rabbitmq_server.delete_queue(queue, rabbitmq_vhost)
            await scene.is_noticed(*scene.workers)
            await scene.flows()
            assert all(worker.gaps for worker in scene.workers)
        scene.judge()

    async def test_rooms_come_back_when_the_network_of_one_worker_was_dead(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
    ) -> None:
        async with stage(rabbitmq_server, rabbitmq_vhost, **SOON) as scene:
            scene.near.wire.stall()
            await scene.is_red(scene.near)
            scene.near.wire.resume()
            await scene.flows()
        scene.judge()

    async def test_rooms_come_back_when_permissions_were_withdrawn(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
    ) -> None:
        server, user = rabbitmq_server, f"u{rabbitmq_vhost}"
        server.add_user(user)
        only = {"configure": "^rooms", "write": "^rooms", "read": "^rooms"}
        server.permit(rabbitmq_vhost, user=user, **only)
        async with stage(server, rabbitmq_vhost, user, **SOON) as scene:
            server.permit(rabbitmq_vhost, user=user, **{**only, "write": "^nothing$"})
            # What a channel has been allowed once, RabbitMQ does not ask for again.
            server.close_connections(rabbitmq_vhost)
            await scene.is_red(*scene.workers)
            await eventually(
                lambda: all("ACCESS_REFUSED" in w.rooms.health.reason for w in scene.workers)
            )
            assert all("set_permissions" in w.rooms.health.reason for w in scene.workers)
            server.permit(rabbitmq_vhost, user=user, **only)
            await scene.flows()
        scene.judge()

    @pytest.mark.parametrize("missing", ["configure", "write", "read"])
    async def test_a_start_that_lacks_a_permission_says_which(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str, missing: str
    ) -> None:
        server, user = rabbitmq_server, f"u{rabbitmq_vhost}"
        server.add_user(user)
        server.permit(rabbitmq_vhost, user=user, **{missing: "^nothing$"})
        url = server.url_of(server.host, server.port, vhost=rabbitmq_vhost, user=user)
        with pytest.raises(AdapterUnavailable, match=r"ACCESS_REFUSED.*set_permissions"):
            await RoomManager(url).start()
        if missing == "write":
            with pytest.raises(AdapterUnavailable, match="ACCESS_REFUSED"):
                Emitter(url).to("lobby").send_text("hello")

    async def test_what_a_full_queue_loses_is_told(
        self, rabbitmq_server: RabbitMQServer, rabbitmq_vhost: str
    ) -> None:
        server = rabbitmq_server
        url = server.url_of(server.host, server.port, vhost=rabbitmq_vhost)
        async with RabbitMQProxy(server, rabbitmq_vhost) as wire:
            sender = Station(RabbitMQAdapter(url))
            hearer = Station(RabbitMQAdapter(wire.url, max_queue_bytes=200_000))
            await sender.start()
            await hearer.start(b"news")
            try:
                wire.stall()
                began = time.time()
                sent = [b"%06d" % number + bytes(1000) for number in range(2000)]
                await asyncio.gather(*(sender.adapter.publish(b"news", data) for data in sent))
                ended = time.time()
                wire.resume()
                await sender.publish(b"news", b"last")
                await eventually(lambda: b"last" in hearer.heard(b"news"))
                heard = [data for data in hearer.heard(b"news") if data != b"last"]
                assert heard == sorted(set(heard))
                assert len(heard) < len(sent), "else nothing is tried here"
                told = partial(_is_told, hearer, began, ended)
                await eventually(told, what="a gap for all that was lost")
                assert hearer.adapter.health.connected
            finally:
                await sender.adapter.close()
                await hearer.adapter.close()


def _is_refused_more(worker: Worker, than: int) -> bool:
    return len(worker.talk.refused) > than


def _is_told(hearer: Station, began: float, ended: float) -> bool:
    return any(
        b"news" in gap.channels and gap.since <= began and gap.until >= ended for gap in hearer.gaps
    )
