"""Edges and backends on the carriers that number and order otherwise: Redis Cluster, RabbitMQ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect

from fastapi_rooms.testing import RabbitMQServer, RedisCluster, RedisServer, eventually
from tests.integration.gateway.site import Site, at, site


@pytest.fixture(params=["cluster", "rabbitmq"])
async def distant(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    """Edges and backends on each of these."""
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        async with site(cluster.url) as made:
            yield made
    else:
        server: RabbitMQServer = request.getfixturevalue("rabbitmq_server")
        with server.vhost() as vhost:
            url = server.url_of(server.host, server.port, vhost=vhost)
            async with site(url) as made:
                yield made


async def test_clients_talk_in_their_rooms_and_outlive_their_backend(distant: Site) -> None:
    ports = [await distant.edge(), await distant.edge()]
    first = await distant.backend()
    ann, bob = [await connect(at(port, f"/chat/tea-{uuid4().hex}")) for port in ports]
    assert await ann.recv() == await bob.recv() == "hello 0"
    # What has been joined is heard: the edge has it confirmed before the endpoint goes on, in
    # whichever order its carrier has frames and room messages.
    room = ""
    for number in range(20):
        room = f"room-{uuid4().hex}"
        for client in (ann, bob):
            await client.send(f"join {room}")
            assert await client.recv() == "joined"
        await first.manager.to(room).send_text(f"message {number}")
        assert await ann.recv() == await bob.recv() == f"message {number}"
    await distant.backend()
    await distant.stop(first)
    assert await ann.recv() == await bob.recv() == "hello 1"
    await ann.send("still here")
    assert await ann.recv() == "still here"
    await distant.backends[0].manager.to(room).send_text("and in the room")
    assert await ann.recv() == await bob.recv() == "and in the room"
    await ann.close()
    await bob.close()


async def test_clients_stay_when_redis_is_killed_and_hear_their_rooms_when_it_is_back(
    own_redis: RedisServer,
) -> None:
    async with site(own_redis.url) as made:
        ports = [await made.edge(), await made.edge()]
        await made.backend()
        ann, bob = [await connect(at(port, "/chat/tea")) for port in ports]
        assert await ann.recv() == await bob.recv() == "hello 0"
        own_redis.kill()
        rooms = made.backends[0].manager
        await eventually(lambda: not rooms.health.connected)
        assert not made.edges[0].health.ready
        own_redis.start()
        greetings = [str(await client.recv()) for client in (ann, bob)]
        assert all(greeting.startswith("hello ") for greeting in greetings)
        await eventually(lambda: all(edge.health.ready for edge in made.edges))
        await eventually(lambda: rooms.health.connected)
        await rooms.to("tea").send_text("back")
        for client in (ann, bob):
            while (heard := await client.recv()) != "back":
                assert str(heard).startswith("hello ")
        assert made.edges[0].health.reattached >= 1
        await ann.close()
        await bob.close()
