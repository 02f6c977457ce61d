"""Twenty clients that do not read, among others who do, on real servers with several workers."""

from __future__ import annotations

import asyncio

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client
from tests.integration.servers import Start, uvicorn
from tests.integration.workers import Connect, Workers

ABNORMAL, TRY_AGAIN_LATER = 1006, 1013
LIMIT = 1024 * 1024
WORDS = 64
WORD = "." * 128 * 1024
"""So many words of this size are 8 MiB: more than the kernel and an outbox hold for anyone."""


async def test_twenty_mute_readers_are_dropped_at_their_limit_and_nobody_waits_for_them(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(uvicorn("--workers", "2"), ROOMS_URL=redis.url, OUTBOX_BYTES=str(LIMIT))
    workers = Workers.of(server, 2)
    readers = [await workers.connect(connect, worker) for worker in (0, 0, 1)]
    mutes = [await workers.connect(connect, number, buffer=4096) for number in range(20)]
    ann = readers[0]
    await asyncio.gather(*(client.socket.join("tea") for client in (*readers, *mutes)))
    for mute in mutes:
        mute.stop_reading()

    for number in range(WORDS):
        await ann.rooms.to("tea").send_text(f"{number}{WORD}")
        # Whoever reads has each word before the next is said, and the mute ones read none before
        # all is over: so neither the sender nor a reader can have waited for one of them.
        for reader in readers:
            assert await reader.next() == f"{number}{WORD}"

    async def only_the_readers_are_there() -> bool:
        states = [await workers.state(worker) for worker in range(2)]
        there = {sid for state in states for sid in state["rooms"].get("tea", ())}
        return there == {reader.sid for reader in readers}

    await eventually(only_the_readers_are_there)
    await asyncio.gather(*(is_dropped(mute) for mute in mutes))
    await ann.rooms.to("tea").send_text("on we go")
    assert [await reader.next() for reader in readers] == ["on we go"] * 3
    assert server.complaints == []


async def is_dropped(mute: Client) -> None:
    """Read what is left: it ends at the limit, and the kernel's, with a close."""
    mute.read_on()
    assert await mute.closed() in {TRY_AGAIN_LATER, ABNORMAL}
    assert mute.unread < WORDS
