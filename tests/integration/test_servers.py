"""The same rooms on every server: an endpoint needs nothing of it but ASGI."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from fastapi_rooms.testing import RedisServer, eventually
from tests.integration.clients import Client, heard
from tests.integration.servers import WEBSOCKETS, Start, granian, gunicorn, hypercorn, uvicorn
from tests.integration.workers import Connect, Workers

Command = Callable[[int], list[str]]

UVICORN = {
    f"uvicorn {ws} {loop}": uvicorn("--workers", "2", "--ws", ws, "--loop", loop)
    for ws in WEBSOCKETS
    for loop in ("asyncio", "uvloop")
}
GUNICORN = {
    "gunicorn": gunicorn("-w", "2"),
    "gunicorn --preload": gunicorn("-w", "2", "--preload"),
}
OTHERS = {
    "hypercorn asyncio": hypercorn("-w", "2"),
    "hypercorn uvloop": hypercorn("-w", "2", "-k", "uvloop"),
    "granian asyncio": granian("--workers", "2", "--loop", "asyncio"),
    "granian uvloop": granian("--workers", "2", "--loop", "uvloop"),
}
EVERY_SERVER = UVICORN | GUNICORN | OTHERS


@pytest.fixture(params=[*EVERY_SERVER.values()], ids=[*EVERY_SERVER])
def command(request: pytest.FixtureRequest) -> Command:
    command: Command = request.param
    module = command(0)[2]
    assert find_spec(module), f"{module} is missing: install the project's `test` extra"
    return command


async def test_rooms_meet_across_two_workers(
    command: Command, start: Start, redis: RedisServer, connect: Connect
) -> None:
    server = start(command, ROOMS_URL=redis.url)
    workers = Workers.of(server, 2)
    options = {"compression": "deflate"}  # as a browser offers it
    ann, bob, cid = [await workers.connect(connect, worker, **options) for worker in (0, 1, 1)]
    assert ann.worker != bob.worker == cid.worker

    await messages_cross(ann, bob, cid)
    await messages_of_one_sender_keep_their_order(ann, bob)
    await big_messages_arrive_whole(ann, bob)
    await whoever_goes_is_forgotten(workers, ann, bob, cid)

    assert server.complaints == []


async def messages_cross(ann: Client, bob: Client, cid: Client) -> None:
    await bob.socket.join("tea")
    await ann.socket.join("tea")
    await ann.rooms.to("tea").send_text("text")
    await bob.socket.to("tea").send_bytes(bytes(range(256)))
    await cid.socket.broadcast.send_json({"to": "everyone"})
    await cid.rooms.to(ann.sid).send_text("only ann")
    await cid.rooms.to("tea").except_(bob.sid).send_text("not bob")
    assert await heard(cid, ann) == [
        ["text", bytes(range(256)), '{"to":"everyone"}', "only ann", "not bob"]
    ]
    assert await heard(cid, bob, cid) == [["text", '{"to":"everyone"}'], []]


async def messages_of_one_sender_keep_their_order(ann: Client, bob: Client) -> None:
    await ann.app.burst_at_once("tea", 500)
    await heard(ann, ann)
    assert await heard(ann, bob) == [[str(number) for number in range(500)]]


async def big_messages_arrive_whole(ann: Client, bob: Client) -> None:
    text = secrets.token_hex(512 * 1024)
    await ann.socket.to("tea").send_text(text)
    await ann.socket.to("tea").send_bytes(text.encode())
    assert await heard(ann, bob) == [[text, text.encode()]]


async def whoever_goes_is_forgotten(
    workers: Workers, ann: Client, bob: Client, cid: Client
) -> None:
    async def nobody_is_left() -> bool:
        states = [await workers.state(worker) for worker in (0, 1)]
        return all(not s["sids"] and not s["rooms"] and not s["endpoints"] for s in states)

    bob.vanish()
    await asyncio.gather(ann.close(), cid.close())
    await eventually(nobody_is_left, what="nobody is in any map")
