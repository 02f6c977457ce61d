"""What takes too long, is cancelled or waits at the end is not sent, or may have been."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.adapters.redis.pubsub import adapter as adapter_module
from fastapi_rooms.testing import Direction, Proxy, RedisServer, eventually
from tests.faults.kept import RETENTION, Worker, worker
from tests.faults.support import NEVER


async def test_what_was_not_written_in_time_is_never_sent(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=0.3) as near:
        await near.append(b"first")
        wire.refuse()
        await eventually(lambda: not near.adapter.health.connected)
        with pytest.raises(AdapterUnavailable, match=r"did not accept it in 0\.3 s") as raised:
            await near.append(b"late")
        assert not raised.value.uncertain
        with pytest.raises(AdapterUnavailable, match=r"did not answer in 0\.3 s"):
            await near.read()
        assert near.adapter.health.dropped == 1
        await eventually(lambda: near.adapter.health.buffered == 0)
        await wire.accept()
        await eventually(lambda: near.adapter.health.connected)

        async def is_read_again() -> bool:
            with suppress(AdapterUnavailable):  # its own connection may take longer
                return await near.kept() == [b"first"]
            return False

        await eventually(is_read_again)


async def test_what_was_written_and_not_answered_in_time_may_be_kept(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=0.3) as near:
        await near.append(b"first")
        wire.stall(Direction.TO_CLIENT)
        with pytest.raises(AdapterUnavailable, match="no answer comes") as raised:
            await near.append(b"perhaps")
        assert raised.value.uncertain
        wire.resume()
        await eventually(lambda: near.adapter.health.connected)
        await near.append(b"last")
        assert await near.kept() == [b"first", b"perhaps", b"last"]
        await eventually(lambda: near.adapter.health.buffered == 0)


async def test_a_connection_without_answers_is_replaced_though_messages_may_wait_for_long(
    own_redis: RedisServer, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter_module, "PATIENCE", 0.2)
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, publish_timeout=NEVER, probe_interval=0.2) as near:
        await near.append(b"first")
        for connection in wire.connections:
            connection.stall()
        await near.append(b"goes out again on the next connection")
        assert (await near.read()).top.offset == 2


async def test_what_is_cancelled_before_it_is_written_is_taken_back(
    own_redis: RedisServer, wire: Proxy, near: Worker
) -> None:
    await near.append(b"first")
    wire.refuse()
    await eventually(lambda: not near.adapter.health.connected)
    kept = asyncio.create_task(near.append(b"kept"))
    await eventually(lambda: near.adapter.health.buffered)
    buffered = near.adapter.health.buffered
    for _ in range(3):
        cancelled = [asyncio.create_task(near.append(bytes(1000))) for _ in range(500)]
        await eventually(lambda: near.adapter.health.buffered > 500_000)
        for task in cancelled:
            task.cancel()
        await asyncio.wait(cancelled)
        assert near.adapter.health.buffered == buffered
    await wire.accept()
    await kept
    assert await near.kept() == [b"first", b"kept"]
    await eventually(lambda: near.adapter.health.buffered == 0)


async def test_what_waits_is_bounded_together_with_what_is_published(
    own_redis: RedisServer, wire: Proxy
) -> None:
    url = own_redis.url_of(wire.host, wire.port)
    async with worker(url, max_buffered_bytes=10_000) as near:
        await near.append(b"first")
        wire.refuse()
        await eventually(lambda: not near.adapter.health.connected)
        publishing = asyncio.ensure_future(near.adapter.publish(b"elsewhere", bytes(5000)))
        kept = asyncio.create_task(near.append(bytes(4000)))
        await eventually(lambda: near.adapter.health.buffered > 9000)
        with pytest.raises(AdapterUnavailable, match="of 10000 allowed") as raised:
            await near.append(bytes(4000))
        assert not raised.value.uncertain
        await wire.accept()
        await asyncio.gather(publishing, kept)
        assert await near.kept() == [b"first", bytes(4000)]


async def test_closing_fails_what_still_waits_and_says_what_may_have_been_sent(
    own_redis: RedisServer, wire: Proxy
) -> None:
    async with worker(own_redis.url_of(wire.host, wire.port)) as near:
        await near.append(b"first")
        scripts = own_redis.calls("evalsha")
        wire.stall(Direction.TO_CLIENT)
        written = asyncio.create_task(near.append(b"written"))
        await eventually(lambda: own_redis.calls("evalsha") == scripts + 1)
        waiting = asyncio.create_task(near.append(b"waiting"))
        reading = asyncio.create_task(near.read())
        await asyncio.sleep(0)
    for task, uncertain in ((written, True), (waiting, False), (reading, False)):
        with pytest.raises(AdapterUnavailable, match="was closed") as raised:
            await task
        assert raised.value.uncertain is uncertain
    assert RETENTION.size == 1000
