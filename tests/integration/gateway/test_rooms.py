"""The rooms of clients of edges, which are at the edges, and what the carrier does to them."""

from __future__ import annotations

import json
from typing import Any

from redis.asyncio import Redis
from websockets.asyncio.client import connect

from fastapi_rooms import Gap, MemoryAdapter, Outage
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.people import come
from tests.integration.gateway.rooms_app import chat_app
from tests.integration.gateway.site import Site, at, closed, site


async def test_rooms_are_at_the_edges_and_reach_all_clients(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backend = await both.backend()
    ann = await connect(at(ports[0], "/chat/tea?name=ann"))
    bob = await connect(at(ports[1], "/chat/tea?name=bob"))
    for client in (ann, bob):
        assert await client.recv() == "hello 0"
    await ann.send("who")
    assert json.loads(await ann.recv()) == ["ann", "bob"]
    await bob.send("I am rob")
    await bob.send("who")
    assert json.loads(await bob.recv()) == ["ann", "rob"]
    await ann.send("hi")
    assert [await ann.recv(), await bob.recv()] == ["hi", "hi"]
    assert not backend.manager.rooms
    assert [len(edge.manager.rooms["tea"]) for edge in both.edges] == [1, 1]
    await backend.manager.to("tea").sockets_join("late")
    await ann.send("rooms")
    assert json.loads(await ann.recv()) == ["late", "tea"]
    await backend.manager.to("tea").disconnect_sockets(4000, "over")
    assert await closed(ann) == await closed(bob) == (4000, "over")
    await eventually(lambda: backend.clients == 0)


async def test_a_join_that_is_not_allowed_closes_with_1008(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    async with connect(at(port, "/chat/secret")) as client:
        assert (await closed(client))[0] == 1008


async def test_a_broadcast_costs_one_publish_however_many_members(inmemory: Site) -> None:
    ports = [await inmemory.edge(), await inmemory.edge()]
    backend = await inmemory.backend()
    clients = [await connect(at(ports[n % 2], "/chat/tea")) for n in range(12)]
    for client in clients:
        await client.recv()
    adapter = backend.manager._runtime.adapter
    assert isinstance(adapter, MemoryAdapter)
    published = []
    original = adapter.publish

    def publish(channel: bytes, data: bytes) -> Any:
        published.append(channel)
        return original(channel, data)

    adapter.publish = publish  # type: ignore[method-assign]  # to count
    await backend.manager.to("tea").send_text("all")
    assert [await client.recv() for client in clients] == ["all"] * 12
    assert len([channel for channel in published if b"tea" in channel]) == 1
    for client in clients:
        await client.close()


async def test_a_gap_of_the_carrier_opens_every_endpoint_again(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend()
    client = await connect(at(port, "/chat/tea"))
    assert await client.recv() == "hello 0"
    inmemory.edges[0].gap()
    assert await client.recv() == "hello 1"
    inmemory.backends[0].gap()
    assert await client.recv() == "hello 2"
    await client.close()


async def test_a_gap_of_a_backend_is_about_what_it_listens_to_and_opens_its_endpoints_again(
    inmemory: Site,
) -> None:
    port = await inmemory.edge()
    backend = await inmemory.backend(chat_app)
    rooms, gaps = backend.manager, list[Gap]()
    rooms.on("gap")(gaps.append)
    ann, _ = await come(port, "/plain?name=ann")
    adapter: Any = rooms._runtime.adapter
    rooms._runtime.run.gap(Outage(1.0, 2.0, frozenset(adapter._channels)))
    assert json.loads(await ann.recv())[0] == 1
    assert gaps == []
    async with rooms.listen("news"):
        rooms._runtime.run.gap(Outage(3.0, 4.0, frozenset(adapter._channels)))
        assert json.loads(await ann.recv())[0] == 2
    assert [gap.rooms for gap in gaps] == [("news",)]
    await ann.close()


async def test_clients_stay_when_the_carrier_drops_every_connection(redis: RedisServer) -> None:
    async with site(redis.url) as made:
        port = await made.edge()
        await made.backend()
        client = await connect(at(port, "/chat/cut?name=ann"))
        assert await client.recv() == "hello 0"
        async with Redis.from_url(redis.url) as admin:
            for kind in ("pubsub", "normal"):
                await admin.client_kill_filter(_type=kind, skipme=True)
        greeting = str(await client.recv())
        assert greeting.startswith("hello ")
        assert greeting != "hello 0"
        await eventually(lambda: made.backends[0].manager.health.connected)
        await client.send("hi")
        while (heard := await client.recv()) != "hi":
            assert str(heard).startswith("hello ")
        await client.close()
