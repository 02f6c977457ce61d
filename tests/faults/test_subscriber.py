"""The subscribing connection is lost, in every way it can be, and made again."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest
import redis.asyncio

from fastapi_rooms import AdapterUnavailable, Gap, RoomManager
from fastapi_rooms.adapters.redis.links import link
from fastapi_rooms.testing import Direction, Member, Proxy, RedisServer, eventually
from fastapi_rooms.testing.waiting import TIMEOUT
from tests.faults.support import QUICK, behind, busy, manager, ready, talking


async def test_a_killed_subscriber_subscribes_again_and_hears(own_redis: RedisServer) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        assert own_redis.kill_connections("pubsub") == 2
        await eventually(lambda: near.health.reconnects == far.health.reconnects == 1)
        await ready(near, far)
        assert own_redis.numsub("rooms#/#lobby#") == 2
        await near.to("lobby").send_text("from near")
        await far.to("lobby").send_text("from far")
        assert {await here.receive(), await here.receive()} == {"from near", "from far"}
        assert {await there.receive(), await there.receive()} == {"from near", "from far"}


async def test_a_gap_is_told_once_with_its_time_and_rooms(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near = manager(own_redis, wire)
    chat = near.of("/chat")
    gaps: dict[str, list[Gap]] = {"/": [], "/chat": [], "/empty": []}
    for name, told in gaps.items():
        near.of(name).on("gap")(told.append)
    async with (
        near,
        Member(near, "lobby", sid="ann"),
        Member(chat, "news"),
        near.listen("weather"),
    ):
        begin = time.time()
        wire.refuse()
        await eventually(lambda: not near.health.ready)
        lost = time.time()
        await wire.accept()
        await ready(near)
        await eventually(lambda: gaps["/chat"])
        end = time.time()
    assert [len(told) for told in gaps.values()] == [1, 1, 0]
    assert gaps["/"][0].rooms == ("lobby", "weather")
    assert gaps["/chat"][0].rooms == ("news",)
    for gap in (gaps["/"][0], gaps["/chat"][0]):
        assert gap.since <= lost
        assert begin - 5 < gap.since <= gap.until <= end


async def another_attempt(wire: Proxy) -> None:
    """Wait until somebody tries to connect."""
    accepted = wire.accepted
    await eventually(lambda: wire.accepted > accepted)


async def test_an_outage_is_two_lines_in_the_log(
    own_redis: RedisServer, wire: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    near = manager(own_redis, wire)
    async with near, Member(near, "lobby"):
        caplog.clear()
        wire.refuse()
        await eventually(lambda: not near.health.ready)
        await wire.accept()
        wire.stall()  # the handshakes hang now, and are cut off one after the other
        for _ in range(4):
            await another_attempt(wire)
            wire.cut()
        assert not near.health.ready
        wire.resume()
        await ready(near)
        lines = [(r.levelno, r.getMessage()) for r in caplog.records if r.name == "fastapi_rooms"]
    assert [level for level, _ in lines] == [logging.ERROR, logging.WARNING]
    assert lines[0][1].startswith("Redis is out of reach")
    assert lines[1][1].startswith("Redis is back after")


async def test_a_connection_killed_again_and_again_comes_back_each_time(
    own_redis: RedisServer,
) -> None:
    near, far = manager(own_redis), manager(own_redis)
    async with near, far, Member(near, "lobby") as here:
        for number in range(1, 5):
            own_redis.kill_connections()
            await ready(near, far, after=number)
            await far.to("lobby").send_text(str(number))
            await here.receive_until(str(number))
        await eventually(lambda: len(own_redis.connections()) == 4)
        assert len(own_redis.connections("pubsub")) == 2


async def test_thousands_of_rooms_are_subscribed_again_in_bounded_commands(
    own_redis: RedisServer,
) -> None:
    near, far = manager(own_redis), manager(own_redis)
    rooms = [f"room {number}" for number in range(3000)]
    async with near, far, Member(near, *rooms) as here:
        before = own_redis.calls("subscribe")
        own_redis.kill_connections("pubsub")
        await eventually(lambda: near.health.reconnects == 1)
        await ready(near, far)
        assert 6 <= own_redis.calls("subscribe") - before <= 10
        await far.to(rooms[0]).send_text("first")
        await far.to(rooms[-1]).send_text("last")
        assert [await here.receive() for _ in range(2)] == ["first", "last"]


@pytest.mark.parametrize("direction", [Direction.TO_CLIENT, Direction.TO_SERVER, Direction.BOTH])
async def test_a_half_open_subscriber_is_found_by_the_probe(
    own_redis: RedisServer, wire: Proxy, direction: Direction
) -> None:
    near, far = manager(own_redis, wire, probe_interval=0.1), manager(own_redis)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, far, Member(near, "lobby") as here:
        behind(wire, own_redis, "pubsub").stall(direction)
        if direction is Direction.TO_SERVER:
            # What comes from Redis still arrives: that way is not dead, and no one would notice
            # before something is asked. A join is, and it is confirmed on another connection.
            await here.socket.join("another room")
        else:
            await eventually(lambda: near.health.reconnects == 1)
        await ready(near)
        await far.to("lobby").send_text("hello again")
        assert await here.receive() == "hello again"
        assert len(gaps) == near.health.reconnects


async def test_a_clock_that_is_set_back_hides_no_silence(
    own_redis: RedisServer, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_hour_ahead = SimpleNamespace(time=lambda: time.time() + 3600)
    near, far = manager(own_redis, wire, probe_interval=0.1), manager(own_redis)
    with monkeypatch.context() as patch:
        patch.setattr(link, "time", an_hour_ahead)
        async with near, far, Member(near, "lobby") as here:
            patch.undo()
            behind(wire, own_redis, "pubsub").stall()
            await ready(near, after=1)
            await far.to("lobby").send_text("hello again")
            assert await here.receive() == "hello again"


async def test_the_probe_leaves_a_quiet_connection_alone(own_redis: RedisServer) -> None:
    near = manager(own_redis, probe_interval=0.02)
    async with near, Member(near, "lobby"):
        connections = {client["id"] for client in own_redis.connections()}
        published = own_redis.calls("publish")
        await eventually(lambda: own_redis.calls("publish") > published + 5)
        assert {client["id"] for client in own_redis.connections()} == connections
        assert (near.health.reconnects, near.health.dropped) == (0, 0)


async def test_a_message_too_big_for_the_output_buffer_is_survived(own_redis: RedisServer) -> None:
    own_redis.admin.config_set("client-output-buffer-limit", "pubsub 1mb 1mb 1")
    near, far = manager(own_redis), manager(own_redis)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, far, Member(near, "lobby") as here, Member(far, "lobby") as there:
        await far.to("lobby").send_bytes(b"x" * 4 * 1024 * 1024)
        assert len(await there.receive_bytes()) == 4 * 1024 * 1024  # local members have it anyway
        await eventually(lambda: gaps)
        await ready(near, far)
        await far.to("lobby").send_text("smaller")
        assert await here.receive() == "smaller"


async def test_a_redis_that_answers_nonsense_is_left_and_tried_again(
    own_redis: RedisServer, wire: Proxy
) -> None:
    near, far = manager(own_redis, wire, **QUICK), manager(own_redis)
    async with near, far, Member(near, "lobby") as here:
        behind(wire, own_redis, "pubsub").inject(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await eventually(lambda: near.health.reconnects == 1)
        await ready(near)
        await far.to("lobby").send_text("hello again")
        assert await here.receive() == "hello again"


async def test_joins_and_leaves_wait_for_a_busy_redis(own_redis: RedisServer) -> None:
    near, far = RoomManager(own_redis.url, linger=0), manager(own_redis)
    async with near, far, Member(near, "lobby", "bar", "quiz") as here:
        async with busy(own_redis):
            await here.socket.leave("bar", "quiz")
            join = asyncio.create_task(here.socket.join("news", "quiz"))
            for _ in range(2):  # by the second answer Redis has read what came before the first
                with pytest.raises(AdapterUnavailable, match="BUSY"):
                    await near.to("lobby").send_text("not now")
            assert not join.done()
        await join
        await ready(near, far)
        await far.to("news").to("quiz").send_text("you are in")
        await here.receive_until("you are in")
        await eventually(lambda: own_redis.numsub("rooms#/#bar#") == 0)
        assert own_redis.numsub("rooms#/#quiz#") == 1
        assert near.health.reconnects == 0


async def test_an_idle_worker_is_ready_again_soon_after_a_busy_redis(
    own_redis: RedisServer,
) -> None:
    near = manager(own_redis)  # whose next probe is due in ten seconds
    async with near, Member(near, "lobby"):
        async with busy(own_redis):
            with pytest.raises(AdapterUnavailable, match="BUSY"):
                await near.to("lobby").send_text("not now")
            assert not near.health.ready
        await ready(near)
        assert (near.health.reconnects, near.health.dropped) == (0, 1)


async def test_a_gap_begins_with_the_last_probe_that_came_back(own_redis: RedisServer) -> None:
    near, far = manager(own_redis, probe_interval=0.05), manager(own_redis)
    gaps: list[Gap] = []
    near.on("gap")(gaps.append)
    async with near, far, Member(near, "lobby"), talking(far, "lobby"):
        begin = time.time()
        async with redis.asyncio.Redis(port=own_redis.port) as client, client.pubsub() as spy:
            await spy.psubscribe("rooms#probe.*")
            for _ in range(4):  # the confirmation, and probes, whatever else is said meanwhile
                assert await spy.get_message(timeout=TIMEOUT)
        own_redis.kill_connections("pubsub")
        await eventually(lambda: gaps)
        assert gaps[0].since > begin
