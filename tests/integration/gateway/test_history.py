"""Rooms that remember, through edges that are told nothing of them."""

from __future__ import annotations

import asyncio
import json

from redis.asyncio import Redis

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.gateway.people import come, until
from tests.integration.gateway.rooms_app import chat_app
from tests.integration.gateway.site import Site, site


async def test_newcomers_get_the_last_messages_and_all_hear_one_order(both: Site) -> None:
    ports = [await both.edge(), await both.edge()]
    backends = [await both.backend(chat_app), await both.backend(chat_app)]
    rooms = backends[0].manager
    for number in range(5):
        await rooms.to("chat-tea").send_text(f"before {number}")
    ann, joined = await come(ports[0], "/chat-tea?name=ann&recent=3")
    assert joined[1:] == [None, 3, joined[3], ["before 2", "before 3", "before 4"]]
    position = joined[3]["chat-tea"]
    bob, _ = await come(ports[1], "/chat-tea?name=bob")
    async with backends[1].manager.listen("chat-tea") as messages:
        for number in range(20):
            await backends[number % 2].manager.to("chat-tea").send_text(f"{number}")
        heard = [await client.recv() for client in (ann, bob) for _ in range(20)]
        assert heard == [str(number) for number in range(20)] * 2
        assert [(await anext(messages)).text for _ in range(20)] == heard[:20]
    cem, joined = await come(ports[1], f"/chat-tea?name=cem&since={position}")
    assert joined[1:] == [True, 20, joined[3], heard[:20]]
    assert [m.text for m in await rooms.recent("chat-tea", 2)] == ["18", "19"]
    await rooms.clear_history("chat-tea")
    await eventually(
        lambda: not both.edges[0].manager.of("/")._here.recovery.logs.recent("chat-tea", 9)
    )
    dan, joined = await come(ports[0], "/chat-tea?name=dan&recent=9")
    assert joined[1:] == [None, 0, joined[3], []]
    for client in (ann, bob, cem, dan):
        await client.close()


async def test_what_an_endpoint_asks_for_again_is_sent_once_when_its_backend_is_replaced(
    both: Site,
) -> None:
    port = await both.edge()
    first = await both.backend(chat_app)
    await first.manager.to("chat-tea").send_text("old")
    position = await first.manager.position("chat-tea")
    await first.manager.to("chat-tea").send_text("new")
    ann, joined = await come(port, "/chat-tea?name=ann&recent=50")
    assert joined[4] == ["old", "new"]
    bob, joined = await come(port, f"/chat-tea?name=bob&since={position}")
    assert joined[1] is True
    assert joined[4] == ["new"]
    await both.stop(first)
    rooms = both.manager()
    rooms.history("chat-*")
    async with rooms:
        await rooms.to("chat-tea").send_text("nobody runs their endpoints")
    await both.backend(chat_app)
    for client, recovered in ((ann, None), (bob, True)):
        assert await client.recv() == "nobody runs their endpoints"
        attempt, *joined = json.loads(await client.recv())
        assert (attempt, *joined[:2]) == (1, recovered, 0)
        assert joined[2]["chat-tea"]
    await ann.send("on")
    for client in (ann, bob):
        assert await client.recv() == "on", "nothing comes again"
        await client.close()


async def test_what_is_lost_for_good_opens_the_endpoint_again_which_is_told(inmemory: Site) -> None:
    port = await inmemory.edge()
    await inmemory.backend(chat_app)
    ann, _ = await come(port, "/kept-tea?recent=50")
    inmemory.edges[0].manager._here.recovery.lost("kept-tea")
    attempt, recovered, *_ = json.loads(await ann.recv())
    assert (attempt, recovered) == (1, False)
    inmemory.edges[0].gap()
    attempt, recovered, *_ = json.loads(await ann.recv())
    assert (attempt, recovered) == (2, False), "it goes on being so for later endpoints"
    await ann.close()


async def test_all_that_is_kept_is_heard_once_and_in_order_whatever_becomes_of_backends_and_carrier(
    redis: RedisServer,
) -> None:
    async with site(redis.url) as made, Redis.from_url(redis.url) as admin:
        ports = [await made.edge(), await made.edge()]
        backends = [await made.backend(chat_app) for _ in range(2)]
        clients = [(await come(port, "/kept-tea?recent=50"))[0] for port in ports * 2]
        rooms = made.manager()
        rooms.history("kept-*")

        async def speak() -> None:
            for number in range(200):
                await rooms.to("kept-tea").send_text(str(number))
                await asyncio.sleep(0.005)

        async with rooms:
            speaking = asyncio.create_task(speak())
            for backend in backends:
                await admin.client_kill_filter(_type="pubsub", skipme=True)
                await made.stop(backend)
                await made.backend(chat_app)
            await speaking
        for client in clients:
            heard = [m for m in await until(client, "199") if not m.startswith("[")]
            assert heard == [str(number) for number in range(199)]
            await client.close()
