"""How a server ended, and what its clients saw of it."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import NamedTuple

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client
from tests.integration.servers import (
    Server,
)
from tests.integration.workers import Connect


class End(NamedTuple):
    """How a server ended."""

    exit_code: int
    close_codes: set[int | None]
    complaints: list[str]


async def end_of(server: Server, close_codes: list[int | None]) -> End:
    """Wait for it. Numbers in complaints are ports and the like, and differ from run to run."""
    exit_code = await asyncio.to_thread(server.wait)
    complaints = sorted(re.sub(r"\d+", "N", line) for line in server.complaints)
    return End(exit_code, {*close_codes}, complaints)


async def nothing_is_left_in(redis: RedisServer) -> None:
    await eventually(lambda: not redis.channels(), what="no subscription is left")
    await eventually(lambda: not redis.connections(), what="no connection is left")
    assert redis.admin.keys("*") == []


async def six_members(connect: Connect, server: Server) -> list[Client]:
    """Clients in one room, and each in one of its own."""
    members = [await connect(server) for _ in range(6)]
    for number, member in enumerate(members):
        await member.socket.join("tea", f"tea-{number}")
    return members


async def end_without_rooms(server: Server, count: int, sig: signal.Signals) -> End:
    """How a server ends whose application knows nothing of rooms."""
    server.wait_for_workers(count)
    clients = [await Client.connect(server) for _ in range(6)]
    server.send(sig)
    return await end_of(server, [await client.closed() for client in clients])
