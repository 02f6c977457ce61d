"""Edges and backends as the command line starts them: processes that end, stop and are killed."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from fastapi_rooms.testing import RedisServer, eventually
from tests.conftest import PASSWORD
from tests.integration.gateway.processes import STARTED, Processes, processes_on
from tests.soak.rolling import roll


@pytest.fixture
async def processes(redis: RedisServer) -> AsyncIterator[Processes]:
    """Processes that end with the test."""
    async with processes_on(redis.url) as made:
        yield made


def at(port: int) -> str:
    return f"ws://127.0.0.1:{port}/chat/tea"


async def hello(client: ClientConnection) -> list[int]:
    """Which process greets the client, and at which attempt."""
    return [int(word) for word in str(await client.recv()).split()]


async def test_clients_outlive_every_way_in_which_a_backend_ends(processes: Processes) -> None:
    backends = {process.pid: process for process in [await processes.backend()]}
    (one, one_port), (two, two_port) = await asyncio.gather(processes.edge(), processes.edge())
    ann = await connect(f"ws://127.0.0.1:{one_port}/chat/tea", open_timeout=20)
    bob = await connect(f"ws://127.0.0.1:{two_port}/chat/tea", open_timeout=20)
    pids = set()
    for client in (ann, bob):
        pid, attempt = await hello(client)
        pids.add(pid)
    for number, way in enumerate([signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], 1):
        another = await processes.backend()
        backends[another.pid] = another
        (pid,) = pids
        backends[pid].send_signal(way)
        pids = set()
        for client in (ann, bob):
            pid_now, attempt = await hello(client)
            assert (pid_now, attempt) == (another.pid, number)
            pids.add(pid_now)
        await ann.send(f"hello {number}")
        assert await ann.recv() == await bob.recv() == f"hello {number}"
        if way is signal.SIGTERM:
            assert await backends[pid].wait() == 0
        if way is signal.SIGSTOP:  # it goes on, and does not disturb those who replaced it
            backends[pid].send_signal(signal.SIGCONT)
            await bob.send("undisturbed")
            assert await ann.recv() == await bob.recv() == "undisturbed"
    one.terminate()
    await ann.wait_closed()
    assert ann.close_code == 1012
    assert await one.wait() == 0
    await bob.close()
    two.send_signal(signal.SIGHUP)
    assert await two.wait() == 0


async def test_what_is_said_to_a_backend_that_was_killed_is_heard_by_the_next(
    processes: Processes,
) -> None:
    backend = await processes.backend()
    _, port = await processes.edge()
    clients = [await connect(at(port), open_timeout=20) for _ in range(5)]
    for client in clients:
        assert await hello(client) == [backend.pid, 0]
    another = await processes.backend()
    backend.kill()
    await backend.wait()
    said = {f"{number} speaks to nobody" for number in range(len(clients))}
    await asyncio.gather(*map(ClientConnection.send, clients, sorted(said)))
    for client in clients:
        heard = [str(await client.recv()) for _ in range(1 + len(clients))]
        assert f"{another.pid} 1" in heard
        assert said < {*heard}
        await client.close()


async def test_a_rolling_restart_drops_no_connection_and_loses_or_doubles_no_message(
    redis: RedisServer,
) -> None:
    rolling, problems = await roll(redis.url, seconds=1, every=1, clients=24)
    assert problems == []
    assert rolling.restarts >= 2
    assert all(len(member.attempts) > 1 for member in rolling.members)


async def test_clients_wait_five_seconds_without_a_backend_and_new_ones_are_told(
    processes: Processes,
) -> None:
    backend = await processes.backend()
    _, port = await processes.edge("--workers", "2", "--open-timeout", "2")
    clients = [await connect(at(port), open_timeout=20) for _ in range(4)]
    assert {(await hello(client))[1] for client in clients} == {0}
    backend.send_signal(signal.SIGINT)
    assert await backend.wait() == 0
    with pytest.raises(InvalidStatus) as refused:
        await connect(at(port))
    assert refused.value.response.status_code == 503
    await clients[0].send("said while nobody listens")
    ends = [asyncio.ensure_future(client.wait_closed()) for client in clients]
    ended, _ = await asyncio.wait(ends, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert not ended
    last = await processes.backend()
    for client in clients:  # who has an endpoint later is in the room all the time
        heard = {str(await client.recv()), str(await client.recv())}
        assert "said while nobody listens" in heard
        assert {text.split()[1] for text in heard} == {"1", "while"}
    edge = processes.started[1]
    edge.terminate()
    await asyncio.gather(*ends)
    assert {client.close_code for client in clients} == {1012}
    assert await edge.wait() == 0
    last.send_signal(signal.SIGHUP)
    assert await last.wait() == 0


async def asked(port: int, method: str, path: str) -> tuple[int, bytes]:
    """What an edge answers by HTTP."""

    def ask() -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path)
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    return await asyncio.to_thread(ask)


async def test_an_edge_has_the_limits_of_its_options_in_every_process(
    processes: Processes,
) -> None:
    await processes.backend()
    options = ("--origin", "https://a.example", "--max-clients", "1", "--health-path", "/health")
    limits = (
        "--max-message-bytes",
        "10",
        "--header",
        "cookie",
        "--forwarded-allow-ips",
        "*",
        "--log-level",
        "error",
    )
    edge, port = await processes.edge(*options, *limits, "--log-level", "error")

    async def is_ready() -> bool:
        return (await asked(port, "GET", "/health"))[0] == 200

    await eventually(is_ready, timeout=20)
    forwarded = {"x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}
    path = f"ws://127.0.0.1:{port}/chat/address/of"
    async with connect(path, additional_headers=forwarded) as proxied:
        assert await proxied.recv() == "wss 203.0.113.7"

    async def is_empty() -> bool:
        return b'"clients":0' in (await asked(port, "GET", "/health"))[1]

    await eventually(is_empty, timeout=20)
    client = await connect(at(port))
    await hello(client)
    health = json.loads((await asked(port, "GET", "/health"))[1])
    assert (health["clients"], health["backends"]) == (1, {"chat": 1})
    assert (await asked(port, "HEAD", "/health")) == (200, b"")
    assert (await asked(port, "GET", "/other"))[0] == 404
    assert (await asked(port, "POST", "/health"))[0] == 405
    with pytest.raises(InvalidStatus) as full:
        await connect(at(port))
    assert full.value.response.status_code == 503
    with pytest.raises(InvalidStatus) as foreign:
        await connect(at(port), origin=Origin("https://b.example"))
    assert foreign.value.response.status_code == 403
    await client.send("eleven bytes")
    await client.wait_closed()
    assert client.close_code == 1009
    edge.send_signal(signal.SIGINT)
    assert await edge.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--port PORT", "already in use"),
        ("--port 0 --redis REJECTED --workers 2", "rejects the login"),
    ],
)
async def test_an_edge_that_cannot_serve_ends_with_1_and_says_why(
    processes: Processes, locked_redis_server: RedisServer, arguments: str, words: str
) -> None:
    rejected = locked_redis_server.url.replace(quote(PASSWORD, safe=""), "wrong")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given = arguments.replace("REJECTED", rejected).replace("PORT", port).split()
        process = await processes.run("edge", "--route", "/chat=chat", *given, quiet=False)
        async with asyncio.timeout(STARTED):
            _, said = await process.communicate()
    assert process.returncode == 1
    assert words in said.decode()
    assert "Traceback" not in said.decode()
