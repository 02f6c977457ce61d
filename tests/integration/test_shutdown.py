"""How servers end with rooms: as they do without, and with nothing left in Redis."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, heard, server_sent_events, talk_until_given_up
from tests.integration.servers import (
    WEBSOCKETS,
    WITHOUT_ROOMS,
    Server,
    Start,
    gunicorn,
    starter,
    uvicorn,
)
from tests.integration.workers import Connect, Workers

GOING_AWAY, SERVICE_RESTART = 1001, 1012

SERVERS: dict[str, tuple[int, Callable[..., Callable[[int], list[str]]], tuple[str, ...]]] = {
    **{f"uvicorn {ws}": (1, uvicorn, ("--ws", ws)) for ws in WEBSOCKETS},
    "uvicorn two workers": (2, uvicorn, ("--workers", "2")),
    "gunicorn": (2, gunicorn, ("-w", "2")),
    "gunicorn --preload": (2, gunicorn, ("-w", "2", "--preload")),
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that only the servers of this module are connected to."""
    with RedisServer() as server:
        yield server


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


EndWithoutRooms = Callable[[str, signal.Signals], Awaitable[End]]


@pytest.fixture(scope="module")
def end_without_rooms(tmp_path_factory: pytest.TempPathFactory) -> EndWithoutRooms:
    """How a server ends by a signal when its application knows nothing of rooms; found out once."""
    known: dict[tuple[str, signal.Signals], End] = {}

    async def end_without_rooms(kind: str, sig: signal.Signals) -> End:
        if (kind, sig) not in known:
            count, command, options = SERVERS[kind]
            with starter(tmp_path_factory.mktemp("without")) as start:
                server = start(command(*options, app=WITHOUT_ROOMS))
                server.wait_for_workers(count)
                clients = [await Client.connect(server) for _ in range(6)]
                server.send(sig)
                codes = [await client.closed() for client in clients]
                known[kind, sig] = await end_of(server, codes)
        return known[kind, sig]

    return end_without_rooms


async def nothing_is_left_in(redis: RedisServer) -> None:
    await eventually(lambda: not redis.channels(), what="no subscription is left")
    await eventually(lambda: not redis.connections(), what="no connection is left")
    assert redis.admin.keys("*") == []


@pytest.mark.parametrize(
    ("kind", "sig"),
    [(kind, signal.SIGTERM) for kind in SERVERS]
    + [(kind, signal.SIGINT) for kind in SERVERS if kind.startswith("uvicorn")],
)
async def test_a_server_ends_by_a_signal_as_it_does_without_rooms(
    kind: str,
    sig: signal.Signals,
    start: Start,
    redis: RedisServer,
    connect: Connect,
    end_without_rooms: EndWithoutRooms,
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    server.wait_for_workers(count)
    members = [await connect(server) for _ in range(6)]
    for number, member in enumerate(members):
        await member.socket.join("tea", f"tea-{number}")

    server.send(sig)
    codes = [await client.closed() for client in members]
    assert set(codes) <= {GOING_AWAY, SERVICE_RESTART}
    assert await end_of(server, codes) == await end_without_rooms(kind, sig)
    await nothing_is_left_in(redis)


@pytest.mark.parametrize("kind", SERVERS)
async def test_messages_that_flow_when_the_end_comes_make_no_noise(
    kind: str,
    start: Start,
    redis: RedisServer,
    connect: Connect,
    end_without_rooms: EndWithoutRooms,
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    server.wait_for_workers(count)
    members = [await connect(server) for _ in range(6)]
    for member in members:
        await member.socket.join("tea")

    async def talk(member: Client) -> None:
        with suppress(ConnectionError, ConnectionClosed):
            while True:
                await member.socket.to("tea").send_text("and so on")

    talks = [asyncio.create_task(talk(member)) for member in members]
    for member in members:
        for _ in range(20):
            await member.next()
    server.send(signal.SIGTERM)
    codes = [await member.closed() for member in members]
    await asyncio.gather(*talks)
    assert await end_of(server, codes) == await end_without_rooms(kind, signal.SIGTERM)
    await nothing_is_left_in(redis)


async def test_what_endpoints_say_at_the_end_still_reaches_the_other_workers(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    staying, leaving = (start(uvicorn(), ROOMS_URL=redis.url) for _ in range(2))
    staying.wait_for_workers()
    leaving.wait_for_workers()
    ann = await connect(staying)
    await ann.socket.join("tea")
    for number in range(5):
        bob = await connect(leaving)
        await bob.app.say_at_the_end("tea", str(number))
    await asyncio.to_thread(leaving.stop)
    assert sorted([await ann.next() for _ in range(5)]) == ["0", "1", "2", "3", "4"]
    assert leaving.complaints == []


@pytest.mark.parametrize("websockets", ["websockets-sansio", "wsproto"])
async def test_a_client_that_was_given_up_does_not_hold_up_the_end(
    websockets: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    command = uvicorn("--ws", websockets)
    server = start(command, ROOMS_URL=redis.url, OUTBOX_BYTES=str(1024 * 1024))
    server.wait_for_workers()
    ann, bob, mute = [await connect(server, buffer=size) for size in (None, None, 4096)]
    await talk_until_given_up(server, ann, bob, mute)
    try:
        assert await asyncio.to_thread(server.stop) == -signal.SIGTERM
    finally:
        mute.vanish()
    assert server.complaints == []


async def test_a_listener_that_is_cut_off_leaves_nothing(start: Start, redis: RedisServer) -> None:
    server = start(uvicorn("--timeout-graceful-shutdown", "1"), ROOMS_URL=redis.url)
    server.wait_for_workers()
    async with server_sent_events(server, "tea") as events:
        server.send(signal.SIGTERM)
        async for _ in events:
            pytest.fail("nobody said anything")
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    await nothing_is_left_in(redis)


@pytest.mark.parametrize("kind", ["uvicorn two workers", "gunicorn", "gunicorn --preload"])
async def test_reloading_by_sighup_replaces_the_workers_and_their_connections(
    kind: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    old = frozenset(server.wait_for_workers(count))
    members = [await connect(server) for _ in range(6)]
    for number, member in enumerate(members):
        await member.socket.join("tea", f"tea-{number}")
    connections = len(redis.connections())

    server.send(signal.SIGHUP)
    for member in members:
        assert await member.closed() in {GOING_AWAY, SERVICE_RESTART}
    new = await asyncio.to_thread(server.wait_for_workers, count, other_than=old)
    await eventually(lambda: not any(map(is_running, old)), what="the old workers are gone")
    await eventually(lambda: len(redis.connections()) == connections)
    assert redis.numsub("rooms#/#tea#") == 0

    workers = Workers(dict.fromkeys(new, server))
    ann, bob = [await workers.connect(connect, worker) for worker in range(count)]
    await bob.socket.join("tea")
    await ann.rooms.to("tea").send_text("here we are again")
    assert await heard(ann, bob) == [["here we are again"]]
    assert server.complaints == []


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_killed_workers_subscriptions_vanish_and_the_others_go_on(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(uvicorn("--workers", "2"), ROOMS_URL=redis.url)
    workers = Workers.of(server, 2)
    ann, bob, cid = [await workers.connect(connect, worker) for worker in (0, 1, 0)]
    for member in (bob, cid):
        await member.socket.join("tea")
    await bob.socket.join("only bob's")
    assert redis.numsub("rooms#/#tea#") == 2

    os.kill(bob.worker, signal.SIGKILL)
    await bob.closed()
    await eventually(lambda: redis.numsub("rooms#/#tea#") == 1)
    assert redis.numsub("rooms#/#only bob's#") == 0
    await ann.rooms.to("tea").send_text("still here")
    await ann.rooms.to(bob.sid).send_text("to nobody")
    assert await heard(ann, cid) == [["still here"]]

    (replacement,) = await asyncio.to_thread(
        server.wait_for_workers, other_than=frozenset(workers.pids)
    )
    workers = Workers({ann.worker: server, replacement: server})
    dan = await workers.connect(connect, 1)
    await dan.socket.join("tea")
    await ann.rooms.to("tea").send_text("welcome")
    assert await heard(ann, cid, dan) == [["welcome"]] * 2
    assert server.complaints == []
