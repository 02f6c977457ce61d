"""The publishing connection is lost, or Redis does not answer, with messages on their way."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters import probe
from fastapi_rooms.testing import Direction, Member, Proxy, RedisServer, eventually
from tests.faults.support import NEVER, QUICK, behind, manager, ready, talking


@pytest.mark.parametrize(
    "direction",
    [
        pytest.param(Direction.TO_SERVER, id="before they reached Redis"),
        pytest.param(Direction.TO_CLIENT, id="before Redis' answers came"),
    ],
)
async def test_what_was_on_its_way_arrives_once_and_in_order(
    own_redis: RedisServer, wire: Proxy, direction: Direction
) -> None:
    near, far = manager(own_redis, wire), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        await near.to("lobby").send_text("0")
        publisher = behind(wire, own_redis, "normal")
        published = own_redis.calls("publish")
        publisher.stall(direction)
        sent = [str(number) for number in range(1, 51)]
        publishing = [asyncio.create_task(near.to("lobby").send_text(text)) for text in sent]
        if direction is Direction.TO_CLIENT:
            await eventually(lambda: own_redis.calls("publish") == published + 50)
        else:
            await eventually(lambda: near.health.buffered > 50)
        assert not any(task.done() for task in publishing)
        publisher.cut()
        await asyncio.gather(*publishing)
        await near.to("lobby").send_text("last")
        assert await there.receive_until("last") == ["0", *sent]
        await eventually(lambda: near.health.buffered == 0)


async def test_a_publisher_killed_in_full_flow_loses_and_doubles_nothing(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire), manager(own_redis)
    async with near, far, Member(far, "lobby") as there, Member(near, "lobby") as here:
        async with talking(near, "lobby") as talk:
            for _ in range(4):
                publisher = behind(wire, own_redis, "normal")
                publisher.cut()
                await talk.goes_on()
        await near.to("lobby").send_text("last")
        assert talk.refused == []
        assert await there.receive_until("last") == talk.accepted
        assert await here.receive_until("last") == talk.accepted


async def test_killed_by_redis_itself_it_loses_and_doubles_nothing(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        async with talking(near, "lobby") as talk:
            for _ in range(4):
                own_redis.kill_connections("normal")
                await talk.goes_on()
        await near.to("lobby").send_text("last")
        assert await there.receive_until("last") == talk.accepted
        assert talk.refused == []


async def test_nothing_accepted_is_lost_or_doubled_across_a_freeze(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with (
        near,
        far,
        Member(near, "here") as here,
        Member(far, "there") as there,
        talking(near, "there") as to_there,
        talking(far, "here") as to_here,
    ):
        own_redis.freeze()
        await asyncio.sleep(1)  # the fault itself takes so long
        assert near.health.buffered > 0
        own_redis.thaw()
        await asyncio.gather(to_there.goes_on(), to_here.goes_on())
    # They have left by now; what they were sent is still here to be read.
    assert to_there.refused == to_here.refused == []
    assert near.health.reconnects == far.health.reconnects == 0
    assert there.unread == to_there.accepted
    assert here.unread == to_here.accepted


async def test_a_publish_that_is_not_accepted_in_time_raises_and_local_members_have_it(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, **QUICK), manager(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        wire.refuse()
        with pytest.raises(AdapterUnavailable, match=r"did not accept it in 0\.2 s"):
            await near.to("lobby").send_text("only here")
        assert await here.receive() == "only here"
        assert near.health.dropped == 1
        await eventually(lambda: near.health.buffered == 0)
        await wire.accept()
        await ready(near)
        await near.to("lobby").send_text("everywhere")
        assert await there.receive() == await here.receive() == "everywhere"


async def test_a_publisher_that_gets_no_answer_is_replaced(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, publish_timeout=0.2), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        behind(wire, own_redis, "normal").stall()
        with pytest.raises(AdapterUnavailable, match="no answer"):
            await near.to("lobby").send_text("into the void")
        await ready(near)
        await near.to("lobby").send_text("heard")
        assert await there.receive_until("heard") == []
        assert near.health.dropped == 1


async def test_an_idle_publisher_that_gets_no_answer_is_found_by_the_probe(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near = manager(own_redis, wire, **QUICK)
    async with near:
        assert wire.accepted == 2
        behind(wire, own_redis, "normal").stall()
        await eventually(lambda: wire.accepted == 3)
        await ready(near)
        await near.to("lobby").send_text("accepted")


async def test_a_publisher_whose_messages_may_wait_for_long_is_found_as_soon(
    own_redis: RedisServer, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "PATIENCE", 0.2)
    near = manager(own_redis, wire, publish_timeout=3600, probe_interval=0.1)
    async with near:
        behind(wire, own_redis, "normal").stall()
        await near.to("lobby").send_text("goes out again on the next connection")
        assert near.health.dropped == 0


async def test_a_full_buffer_raises_at_once_and_keeps_what_is_in_it(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, max_buffered_bytes=10_000), manager(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        kept = [asyncio.create_task(near.to("lobby").send_bytes(b"x" * 4000)) for _ in range(2)]
        await eventually(lambda: near.health.buffered > 8000)
        with pytest.raises(AdapterUnavailable, match="of 10000 allowed"):
            await near.to("lobby").send_bytes(b"y" * 4000)
        assert [await here.receive() for _ in range(3)] == [b"x" * 4000] * 2 + [b"y" * 4000]
        await wire.accept()
        await asyncio.gather(*kept)
        await near.to("lobby").send_text("last")
        assert await there.receive_until("last") == [b"x" * 4000] * 2
        await eventually(lambda: near.health.buffered == 0)


async def test_what_is_cancelled_in_an_outage_frees_its_bytes_and_is_never_sent(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, publish_timeout=NEVER), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        kept = asyncio.create_task(near.to("lobby").send_text("kept"))
        await eventually(lambda: near.health.buffered > 0)
        buffered = near.health.buffered
        for _ in range(3):
            cancelled = [
                asyncio.create_task(near.to("lobby").send_bytes(b"x" * 1000)) for _ in range(1000)
            ]
            await eventually(lambda: near.health.buffered > 1_000_000)
            for task in cancelled:
                task.cancel()
            await asyncio.wait(cancelled)
            assert near.health.buffered == buffered
        await wire.accept()
        await kept
        await near.to("lobby").send_text("last")
        assert await there.receive_until("last") == ["kept"]
        await eventually(lambda: near.health.buffered == 0)


async def test_one_message_may_be_longer_than_the_buffer(own_redis: RedisServer) -> None:
    near, far = manager(own_redis, max_buffered_bytes=100), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        await near.to("lobby").send_bytes(b"x" * 4000)
        assert await there.receive() == b"x" * 4000


async def test_volatile_waits_for_nothing_and_raises_nothing(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire), manager(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        async with asyncio.timeout(0.5):
            for _ in range(100):
                await near.to("lobby").volatile.send_text("typing…")
        await eventually(lambda: "typing…" in here.unread)
        await eventually(lambda: near.health.buffered == 0)
        await wire.accept()
        await ready(near)
        await near.to("lobby").send_text("last")
        assert await there.receive_until("last") == []


async def test_a_publish_given_up_by_its_caller_takes_no_room_in_the_buffer(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, publish_timeout=0.3), manager(own_redis)
    async with near, far, Member(far, "lobby") as there:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        given_up = [asyncio.create_task(near.to("lobby").send_text("never mind")) for _ in range(9)]
        await eventually(lambda: near.health.buffered > 0)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        await eventually(lambda: near.health.buffered == 0)
        await wire.accept()
        await ready(near)
        await near.to("lobby").send_text("last")
        await there.receive_until("last")


async def test_closing_fails_what_still_waits(own_redis: RedisServer, wire: Proxy) -> None:
    near = manager(own_redis, wire)
    async with near:
        wire.refuse()
        await eventually(lambda: not near.health.connected)
        publishing = asyncio.create_task(near.to("lobby").send_text("too late" * 1000))
        await eventually(lambda: near.health.buffered > 8000)
    with pytest.raises(AdapterUnavailable, match="was closed"):
        await publishing
