"""One client floods rooms whose members are on another worker with more than it can write."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import http
from tests.integration.frame_client import FrameClient
from tests.integration.servers import Server, Start, uvicorn

APP = "tests.integration.overload_app:app"
MAX_GROWTH = 64 * 1024 * 1024
Connect = Callable[..., Awaitable[FrameClient]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connect clients that are gone with the test."""
    clients: list[FrameClient] = []

    async def connect(server: Server, names: str, *, looks: bool = True) -> FrameClient:
        clients.append(await FrameClient.connect(server, names, looks=looks))
        return clients[-1]

    yield connect
    for client in clients:
        client.transport.abort()
    await asyncio.gather(*(client.ended.wait() for client in clients))


@asynccontextmanager
async def _flood(client: FrameClient, rooms: list[str]) -> AsyncIterator[dict[str, int]]:
    """Have a client send to the rooms as fast as it is read, at random.

    Gives how many messages each room was sent; they are numbered and say when they were sent.
    """
    sent: dict[str, int] = defaultdict(int)
    chance = random.Random(3)

    async def flood() -> None:
        while True:
            for _ in range(50):
                room = chance.choice(rooms)
                client.say(f"{room} {sent[room]} {time.time()}")
                sent[room] += 1
            await asyncio.sleep(0)
            await client.writable.wait()

    task = asyncio.create_task(flood())
    try:
        yield sent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _has(client: FrameClient, count: int) -> bool:
    return len(client.texts) == count


def _missing(client: FrameClient, room: str) -> list[tuple[float, float]]:
    """Between which times something was sent to the room that did not come; asserts the order."""
    spans, last, at = [], -1, 0.0
    for text in client.texts:
        if text.startswith(f"{room} "):
            _, number, sent = text.split(" ")
            assert int(number) > last, "in order, and nothing twice"
            if int(number) > last + 1:
                spans.append((at, float(sent)))
            last, at = int(number), float(sent)
    return spans


def _told(client: FrameClient) -> list[tuple[float, float]]:
    """The spans of the gaps that a client heard of, joined where they meet."""
    gaps = [json.loads(text[4:]) for text in client.texts if text.startswith("gap ")]
    spans: list[tuple[float, float]] = []
    for since, until in sorted((gap["since"], gap["until"]) for gap in gaps):
        if spans and since <= spans[-1][1]:
            spans[-1] = (spans[-1][0], until)
        else:
            spans.append((since, until))
    return spans


def _is_told_of_all(client: FrameClient, room: str) -> bool:
    """Whether all that a client misses is in a gap that it heard of."""
    told = _told(client)
    return all(any(a <= s and u <= b for a, b in told) for s, u in _missing(client, room))


async def _has_dropped(server: Server) -> bool:
    state = await http(server, "/health")
    return bool(state["dropped"] > 0)


async def _is_current(server: Server, sender: FrameClient, hearer: FrameClient, room: str) -> None:
    """A message to the room arrives, and nothing waits."""
    numbers = itertools.count()

    async def arrives() -> bool:
        word = f"{room} current {next(numbers)}"
        sender.say(word)
        await asyncio.sleep(0)
        state = await http(server, "/health")
        return any(t.startswith(f"{room} current") for t in hearer.texts) and state["lag"] == 0

    await eventually(arrives)


@pytest.mark.parametrize("count", [2, 100], ids=["two rooms", "many rooms"])
async def test_a_flood_takes_little_memory_and_what_is_missed_is_told_and_others_miss_nothing(
    start: Start, redis: RedisServer, connect: Connect, count: int
) -> None:
    flooded = start(uvicorn(app=APP), ROOMS_URL=redis.url)
    there = start(uvicorn(app=APP), ROOMS_URL=redis.url, MAX_LAG="0.005")
    for server in (flooded, there):
        server.wait_for_workers()
    rooms = [f"r{number}" for number in range(count)]
    for number in range(200):
        await connect(there, rooms[number % count], looks=False)
    watching = [await connect(there, room) for room in rooms[:2]]
    quiet = await connect(there, "quiet")
    sender = await connect(flooded, "sender")
    before = await http(there, "/health")

    async with _flood(await connect(flooded, "flooder"), rooms) as sent:
        for number in range(20):
            sender.say(f"quiet {number} {time.time()}")
            await eventually(partial(_has, quiet, number + 1))
            state = await http(there, "/health")
            assert state["ready"]
        if count == 2:  # of many small rooms, all may be written in time
            await eventually(partial(_has_dropped, there), 60, what="it cannot keep up")
    await _is_current(there, sender, watching[0], rooms[0])
    after = await http(there, "/health")

    assert sum(sent.values()) > 1000
    assert after["peak"] - before["peak"] < MAX_GROWTH
    assert after["reconnects"] == 0
    assert _missing(quiet, "quiet") == []
    for client, room in zip(watching, rooms, strict=False):
        client.texts = [text for text in client.texts if " current " not in text]
        await eventually(partial(_is_told_of_all, client, room))
    if count == 2:
        assert after["dropped"] > 0
        assert "arrive faster" in there.log


async def test_a_worker_that_drains_in_the_midst_of_it_tells_its_clients_and_ends(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    flooded = start(uvicorn(app=APP), ROOMS_URL=redis.url)
    there = start(uvicorn(app=APP), ROOMS_URL=redis.url)
    for server in (flooded, there):
        server.wait_for_workers()
    clients = [await connect(there, "ab"[number % 2], looks=number < 2) for number in range(100)]
    async with _flood(await connect(flooded, "flooder"), ["a", "b"]):
        await eventually(lambda: len(clients[0].texts) > 100)
        there.send(signal.SIGTERM)
        await asyncio.gather(*(client.ended.wait() for client in clients))
    assert await asyncio.to_thread(there.wait) in (0, -signal.SIGTERM)
    assert {client.close_code for client in clients} == {1012}
