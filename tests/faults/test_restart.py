"""Redis goes, and comes back with nothing in it; or is not there when the worker starts."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from pathlib import Path

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import AdapterUnavailable, Outage, RedisAdapter, RoomManager
from fastapi_rooms.testing import Member, Proxy, RedisServer, eventually
from tests.faults.support import HANGS, NEVER, QUICK, manager, ready, talking


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_rooms_are_local_without_redis_and_whole_soon_after_it_is_back(
    own_redis: RedisServer, how: str
) -> None:
    near, far = manager(own_redis, publish_timeout=0.1), manager(own_redis, publish_timeout=0.1)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        await asyncio.to_thread(getattr(own_redis, how))
        await eventually(lambda: not near.health.ready and not far.health.ready)
        with pytest.raises(AdapterUnavailable):
            await near.to("lobby").send_text("only here")
        assert await here.receive() == "only here"
        await asyncio.to_thread(own_redis.start)
        await ready(near, far)
        await near.to("lobby").send_text("everywhere")
        await far.to("lobby").send_text("everywhere else")
        assert {await here.receive(), await here.receive()} == {"everywhere", "everywhere else"}
        assert {await there.receive(), await there.receive()} == {"everywhere", "everywhere else"}


async def test_messages_flow_again_after_a_restart_in_full_flow(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(far, "lobby") as there, Member(near, "lobby") as here:
        async with talking(near, "lobby") as talk:
            await asyncio.to_thread(own_redis.restart)
            await ready(near, far)
            said = len(talk.accepted)
            await talk.goes_on()
        await near.to("lobby").send_text("last")
        received = await there.receive_until("last")
        assert far.health.reconnects == 1
        # What was accepted while `far` was deaf is lost to it, as its gap said. The rest is in
        # order, nothing of it is doubled, and what was said after the outage is whole.
        assert len(received) == len(set(received))
        assert received == sorted(received, key=lambda number: int(str(number)))
        after = talk.accepted[said:]
        assert received[-len(after) :] == after
        assert await here.receive_until("last") == [str(number) for number in range(talk.said)]


async def test_five_restarts_leave_no_more_than_none(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(near, "lobby"), Member(far, "lobby") as there:
        await near.to("lobby").send_text("0")
        await there.receive_until("0")
        before = held(own_redis)
        assert before["connections"] == 4
        for number in range(1, 6):
            await asyncio.to_thread(own_redis.restart)
            await ready(near, far, after=number)
            await near.to("lobby").send_text(str(number))
            await there.receive_until(str(number))
        await eventually(lambda: held(own_redis) == before, what=f"as before: {before}")
        assert near.health.buffered == far.health.buffered == 0
        assert near.health.reconnects == far.health.reconnects == 5


def held(server: RedisServer) -> Counter[str]:
    """Connections, tasks, file descriptors, and objects of ours and of those who open links."""
    gc.collect()
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, gc.get_objects()))
    packages = ("fastapi_rooms.", "redis.", "hiredis.", "asyncio.selector", "asyncio.streams")
    return Counter(
        {
            **Counter(name for name in names if name.startswith(packages)),
            "connections": len(server.connections()),
            "tasks": len(asyncio.all_tasks()),
            "file descriptors": len([*Path("/proc/self/fd").iterdir()]),
        }
    )


async def test_a_join_that_waits_through_an_outage_completes_after_it(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire), manager(own_redis)
    async with near, far, Member(near) as here:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        join = asyncio.create_task(here.socket.join("lobby", "bar"))
        listening = near.listen("news")
        listen = asyncio.create_task(listening.__aenter__())
        await asyncio.sleep(0)
        assert not near.rooms.get("lobby")
        await wire.accept()
        await join
        messages = await listen
        await far.to("lobby", "bar", "news").send_text("you are in")
        assert await here.receive() == "you are in"
        assert (await anext(messages)).text == "you are in"
        await listening.__aexit__(None, None, None)


async def test_a_join_whose_confirmation_is_lost_completes_after_the_outage(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire), manager(own_redis)
    async with near, far, Member(near) as here:
        wire.stall()
        join = asyncio.create_task(here.socket.join("lobby"))
        await asyncio.sleep(0)
        wire.cut()
        wire.resume()
        await join
        await far.to("lobby").send_text("you are in")
        assert await here.receive() == "you are in"


async def test_a_join_cancelled_in_an_outage_leaves_nothing(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near = manager(own_redis, wire)
    async with near, Member(near) as here:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        tasks = len(asyncio.all_tasks())
        join = asyncio.create_task(here.socket.join("lobby"))
        await asyncio.sleep(0)
        join.cancel()
        await asyncio.gather(join, return_exceptions=True)
        assert here.socket.rooms == {here.sid}
        assert len(asyncio.all_tasks()) == tasks
        await wire.accept()
        await ready(near)
        await eventually(lambda: own_redis.numsub("rooms#/#lobby#") == 0)


async def test_a_join_that_takes_too_long_joins_nothing_and_says_so(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    near = RoomManager(url, join_timeout=0.1, linger=0.01)
    async with near, Member(near, "before") as here:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        with pytest.raises(AdapterUnavailable, match=r"did not confirm the join in 0\.1 s"):
            await here.socket.join("before", "lobby", "bar")
        assert here.socket.rooms == {"before", here.sid}
        with pytest.raises(AdapterUnavailable):
            async with near.listen("news"):
                pytest.fail("listened to what was not confirmed")
        await wire.accept()
        await ready(near)
        assert own_redis.numsub("rooms#/#before#") == 1
        failed = [f"rooms#/#{room}#" for room in ("lobby", "bar", "news")]
        await eventually(lambda: not any(map(own_redis.numsub, failed)))


async def test_a_worker_starts_without_redis_and_finds_it_when_it_comes(
    own_redis: RedisServer, wire: Proxy
) -> None:
    wire.refuse()
    url = own_redis.url_of(wire.host, wire.port)
    near, far = RoomManager(url, join_timeout=0.1, publish_timeout=0.1), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        health = near.health
        assert not health.ready
        assert not health.connected
        assert health.last_received is None
        with pytest.raises(AdapterUnavailable):
            await near.to("lobby").send_text("to nobody")
        with pytest.raises(WebSocketDisconnect) as turned_away:
            await Member(near, "lobby").open()
        assert turned_away.value.code == 1013
        assert not near.sids
        await near.local.to("lobby").send_text("this needs no Redis")
        await wire.accept()
        await ready(near)
        async with Member(near, "lobby") as here:
            await near.to("lobby").send_text("everywhere")
            assert await here.receive() == await there.receive() == "everywhere"


def test_an_adapter_whose_event_loop_was_abandoned_is_not_connected_in_the_next() -> None:
    class Nobody:
        def received(self, channel: bytes, data: bytes) -> None: ...
        def gap(self, outage: Outage) -> None: ...

    async def start_and_stay() -> None:
        await adapter.start(Nobody(), [])
        assert adapter.health.connected is True

    async def in_the_next() -> None:
        starting = asyncio.create_task(adapter.start(Nobody(), []))
        await asyncio.sleep(0)
        assert adapter.health.connected is False, "nobody has answered yet"
        await starting
        await eventually(lambda: adapter.health.connected)
        await adapter.close()

    with RedisServer() as server:
        adapter = RedisAdapter(server.url)
        asyncio.run(start_and_stay())
        asyncio.run(in_the_next())


async def test_starting_without_redis_waits_for_nothing(
    own_redis: RedisServer, wire: Proxy
) -> None:
    wire.refuse()
    near = manager(own_redis, wire, connect_timeout=NEVER, publish_timeout=NEVER)
    async with asyncio.timeout(HANGS), near:
        assert not near.health.ready


async def test_a_redis_that_takes_connections_and_says_nothing_holds_no_start_up(
    own_redis: RedisServer, wire: Proxy
) -> None:
    wire.stall()
    near = manager(own_redis, wire, **QUICK)
    async with near, Member(near, "lobby") if near.health.ready else near:
        assert not near.health.ready
        wire.resume()
        await ready(near)


async def test_closing_in_an_outage_waits_for_nothing_and_leaves_no_task(
    own_redis: RedisServer, wire: Proxy
) -> None:
    tasks = len(asyncio.all_tasks())
    for fault in (wire.refuse, wire.stall):
        url = own_redis.url_of(wire.host, wire.port)
        adapter = RedisAdapter(url, connect_timeout=NEVER, publish_timeout=NEVER)
        near = RoomManager(adapter, join_timeout=NEVER)
        async with asyncio.timeout(HANGS):
            async with near, Member(near, "lobby") as here:
                fault()
                joining = asyncio.create_task(here.socket.join("another"))
                await asyncio.sleep(0)
            with pytest.raises(AdapterUnavailable):
                await joining
        wire.resume()
        await wire.accept()
    await eventually(lambda: not wire.connections)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
