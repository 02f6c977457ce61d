"""How servers end with rooms: as they do without, and with nothing left in Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fastapi_rooms.core.drain_schedule import CLOSES_PER_SECOND, IMMEDIATE_MAX
from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, heard, http, server_sent_events, talk_until_given_up
from tests.integration.endings import (
    end_of,
    end_without_rooms,
    nothing_is_left_in,
    six_members,
)
from tests.integration.servers import (
    DIRECT_WEBSOCKETS,
    WEBSOCKETS,
    WITHOUT_ROOMS,
    Server,
    Start,
    gunicorn,
    uvicorn,
)
from tests.integration.workers import Connect, Workers

GOING_AWAY, SERVICE_RESTART = 1001, 1012

SERVERS: dict[str, tuple[int, Callable[..., Callable[[int], list[str]]], tuple[str, ...]]] = {
    **{f"uvicorn {ws}": (1, uvicorn, ("--ws", ws)) for ws in WEBSOCKETS},
    "uvicorn --reload": (1, uvicorn, ("--reload", "--reload-dir", "tests/integration")),
    "uvicorn two workers": (2, uvicorn, ("--workers", "2")),
    "gunicorn": (2, gunicorn, ("-w", "2")),
    "gunicorn --preload": (2, gunicorn, ("-w", "2", "--preload")),
}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis that only the servers of this module are connected to."""
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "sig"),
    [(kind, signal.SIGTERM) for kind in SERVERS]
    + [(kind, signal.SIGINT) for kind in SERVERS if kind.startswith("uvicorn")],
)
async def test_a_server_ends_by_a_signal_in_mid_talk_as_it_does_without_rooms(
    kind: str, sig: signal.Signals, start: Start, redis: RedisServer, connect: Connect
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    without_rooms = start(command(*options, app=WITHOUT_ROOMS))
    server.wait_for_workers(count)
    members = await six_members(connect, server)

    async def talk(member: Client) -> None:
        with suppress(ConnectionError, ConnectionClosed):
            while True:
                await member.socket.to("tea").send_text("and so on")

    talks = [asyncio.create_task(talk(member)) for member in members]
    for member in members:
        for _ in range(20):
            await member.next()
    server.send(sig)
    codes = [await member.closed() for member in members]
    await asyncio.gather(*talks)
    assert set(codes) <= {GOING_AWAY, SERVICE_RESTART}
    assert await end_of(server, codes) == await end_without_rooms(without_rooms, count, sig)
    await nothing_is_left_in(redis)


@pytest.mark.parametrize("kind", ["uvicorn websockets-sansio", "gunicorn"])
async def test_a_quiet_server_ends_without_a_word(
    kind: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    server.wait_for_workers(count)
    members = await six_members(connect, server)
    server.send(signal.SIGTERM)
    assert {await member.closed() for member in members} == {SERVICE_RESTART}
    assert await asyncio.to_thread(server.wait) in {0, -signal.SIGTERM}
    assert server.complaints == []
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


@pytest.mark.parametrize("websockets", DIRECT_WEBSOCKETS)
async def test_a_client_that_was_given_up_does_not_hold_up_the_end(
    websockets: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    command = uvicorn("--ws", websockets)
    limits = {"OUTBOX_BYTES": str(1024 * 1024), "CLOSE_TIMEOUT": "0.2"}
    server = start(command, ROOMS_URL=redis.url, **limits)
    server.wait_for_workers()
    ann, bob, mute = [await connect(server, buffer=size) for size in (None, None, 4096)]
    await talk_until_given_up(server, ann, bob, mute)
    try:
        assert await asyncio.to_thread(server.stop) == -signal.SIGTERM
    finally:
        mute.vanish()
    assert server.complaints == []


MANY = 100
SPAN = (MANY - IMMEDIATE_MAX) / CLOSES_PER_SECOND
"""How long so many clients are closed over."""


async def closings(server: Server, sig: signal.Signals, clients: list[Client]) -> list[float]:
    """Seconds from a signal to the end of each client's connection, in ascending order."""
    clock = asyncio.get_running_loop().time
    begin = clock()

    async def closing(client: Client) -> float:
        assert await client.closed() == SERVICE_RESTART
        return clock() - begin

    server.send(sig)
    return sorted(await asyncio.gather(*map(closing, clients)))


def are_spread_over(span: float, closings: list[float]) -> bool:
    """Whether nobody was closed before the slot that is that client's at the earliest.

    It may be noticed later, on a slow machine.
    """
    slot = span / len(closings)
    return all(when >= number * slot for number, when in enumerate(closings))


@pytest.mark.parametrize("kind", ["uvicorn websockets-sansio", "uvicorn wsproto", "gunicorn"])
async def test_many_clients_are_closed_one_after_the_other_behind_what_they_were_sent(
    kind: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    _, command, options = SERVERS[kind]
    if command is gunicorn:
        options = ("-w", "1")
    server = start(command(*options), ROOMS_URL=redis.url)
    server.wait_for_workers()
    members = [await connect(server) for _ in range(MANY)]
    for member in members:
        await member.socket.join("tea")
    await members[0].app.burst_at_once("tea", 50)
    await members[0].rooms.to("tea").send_text("mark the end")
    assert are_spread_over(SPAN, await closings(server, signal.SIGTERM, members))
    for member in members[1:]:
        assert await member.until("mark the end") == [str(number) for number in range(50)]
    assert await asyncio.to_thread(server.wait) in {0, -signal.SIGTERM}
    assert server.complaints == []
    await nothing_is_left_in(redis)


async def test_a_server_that_waits_for_a_short_time_only_is_left_in_that_time(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(uvicorn("--timeout-graceful-shutdown", "2"), ROOMS_URL=redis.url)
    server.wait_for_workers()
    members = [await connect(server) for _ in range(2 * MANY)]  # who would take twice that time
    assert are_spread_over(1, await closings(server, signal.SIGTERM, members))
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    assert server.complaints == []
    await nothing_is_left_in(redis)


async def test_many_clients_are_closed_at_once_when_the_window_is_nothing(
    start: Start, connect: Connect
) -> None:
    server = start(uvicorn(), DRAIN_WINDOW="0")
    server.wait_for_workers()
    members = [await connect(server) for _ in range(MANY)]
    assert not are_spread_over(SPAN, await closings(server, signal.SIGTERM, members))


async def test_a_worker_is_not_ready_while_it_leaves_and_sends_newcomers_elsewhere(
    start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(uvicorn(), ROOMS_URL=redis.url)
    server.wait_for_workers()
    before = (await http(server, "/state"))["connections"]
    members = [await connect(server) for _ in range(IMMEDIATE_MAX + 5)]
    mute = await connect(server, buffer=4096)
    await mute.socket.join("tea")
    mute.stop_reading()
    await members[0].app.burst("tea", 64, 128 * 1024)
    draining = asyncio.create_task(http(server, "/drain", "POST"))
    for member in members:
        assert await member.closed() == SERVICE_RESTART
    assert (await http(server, "/health"))["ready"] is False
    with pytest.raises(ConnectionClosed) as turned_away:
        await connect(server)
    assert turned_away.value.rcvd is not None
    assert turned_away.value.rcvd.code == SERVICE_RESTART
    mute.vanish()
    await draining
    assert (await http(server, "/state"))["connections"] == before
    assert await asyncio.to_thread(server.stop) == -signal.SIGTERM
    assert server.complaints == []


@pytest.mark.parametrize("websockets", DIRECT_WEBSOCKETS)
async def test_a_client_that_reads_slowly_gets_all_that_was_sent_before_the_end(
    websockets: str, start: Start, connect: Connect
) -> None:
    server = start(uvicorn("--ws", websockets), DRAIN_TIMEOUT="60")
    server.wait_for_workers()
    ann, slow = await connect(server), await connect(server, buffer=4096)
    await slow.socket.join("tea")
    slow.stop_reading()
    await ann.app.burst("tea", 64, 128 * 1024)
    server.send(signal.SIGTERM)
    assert await ann.closed() == SERVICE_RESTART
    slow.read_on()
    assert await slow.closed() == SERVICE_RESTART
    heard = [await slow.next() for _ in range(64)]
    assert [int(str(message).rstrip(".")) for message in heard] == list(range(64))
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    assert server.complaints == []


@pytest.mark.parametrize("websockets", DIRECT_WEBSOCKETS)
async def test_a_client_that_reads_nothing_does_not_hold_up_the_end(
    websockets: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(uvicorn("--ws", websockets), ROOMS_URL=redis.url, DRAIN_TIMEOUT="0.2")
    server.wait_for_workers()
    ann, mute = await connect(server), await connect(server, buffer=4096)
    await mute.socket.join("tea")
    mute.stop_reading()
    await ann.app.burst("tea", 64, 128 * 1024)
    try:
        assert await asyncio.to_thread(server.stop) == -signal.SIGTERM
    finally:
        mute.vanish()
    assert server.complaints == []
    await nothing_is_left_in(redis)


@pytest.mark.parametrize("kind", ["uvicorn websockets-sansio", "gunicorn"])
@pytest.mark.parametrize("clients", [0, 1])
async def test_event_streams_end_by_themselves(
    kind: str, clients: int, start: Start, redis: RedisServer, connect: Connect
) -> None:
    _, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    server.wait_for_workers()
    members = [await connect(server) for _ in range(clients)]
    async with server_sent_events(server, "tea") as events:
        server.send(signal.SIGTERM)
        async for _ in events:
            pytest.fail("nobody said anything")
        assert await asyncio.to_thread(server.wait) in {0, -signal.SIGTERM}
    for member in members:
        assert await member.closed() == SERVICE_RESTART
    assert server.complaints == []
    await nothing_is_left_in(redis)


async def test_a_change_of_the_source_reloads_a_worker_and_closes_its_clients_at_once(
    start: Start, redis: RedisServer, connect: Connect, tmp_path: Path
) -> None:
    source = tmp_path / "watched.py"
    source.write_text("")
    options = ("--reload", "--reload-dir", str(tmp_path), "--reload-delay", "0.05")
    server = start(uvicorn(*options), ROOMS_URL=redis.url)
    old = frozenset(server.wait_for_workers())
    members = [await connect(server) for _ in range(IMMEDIATE_MAX)]
    await eventually(lambda: "Started reloader process" in server.log)
    source.write_text("changed = True")
    os.utime(source, (time.time() + 60, time.time() + 60))  # later, however coarse the clock is
    for member in members:
        assert await member.closed() == SERVICE_RESTART
    await asyncio.to_thread(server.wait_for_workers, other_than=old)
    assert await asyncio.to_thread(server.stop, signal.SIGINT) in {0, -signal.SIGINT}
    assert [line for line in server.complaints if "detected changes" not in line] == []
    await nothing_is_left_in(redis)


async def test_a_handshake_that_is_under_way_when_the_end_comes_makes_no_noise(
    start: Start, redis: RedisServer
) -> None:
    server = start(uvicorn(), ROOMS_URL=redis.url)
    server.wait_for_workers()
    redis.freeze()
    try:
        late = asyncio.create_task(Client.connect(server, "/ws?sid=ann"))
        await eventually(lambda: "[accepted]" in server.log)
        server.send(signal.SIGTERM)
        await eventually(lambda: "Shutting down" in server.log)
    finally:
        redis.thaw()
    with pytest.raises(ConnectionClosed) as turned_away:
        await late
    assert turned_away.value.rcvd is not None
    assert turned_away.value.rcvd.code == SERVICE_RESTART
    assert await asyncio.to_thread(server.wait) == -signal.SIGTERM
    assert server.complaints == []
    await nothing_is_left_in(redis)


@pytest.mark.parametrize("kind", ["uvicorn two workers", "gunicorn", "gunicorn --preload"])
async def test_reloading_by_sighup_replaces_the_workers_and_their_connections(
    kind: str, start: Start, redis: RedisServer, connect: Connect
) -> None:
    count, command, options = SERVERS[kind]
    server = start(command(*options), ROOMS_URL=redis.url)
    old = frozenset(server.wait_for_workers(count))
    members = await six_members(connect, server)
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
