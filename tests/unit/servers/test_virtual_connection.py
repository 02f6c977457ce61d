"""A client of an edge, as its endpoint's server sees it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms.servers.gateway.connection import VirtualConnection
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

OPEN: dict[str, Any] = {
    "path": "/",
    "raw_path": "/",
    "query_string": "",
    "root_path": "",
    "http_version": "1.1",
    "scheme": "ws",
    "headers": [],
    "subprotocols": [],
    "sid": "sid",
    "attempt": 0,
    "lost": 0,
    "sockets": {},
}


Published = list[tuple[FrameKind, bytes]]


def count(published: Published, kind: FrameKind) -> int:
    return sum(each is kind for each, _ in published)


@pytest.mark.parametrize("delay", [3600.0, 0.0])
async def test_messages_are_acknowledged_after_a_while_and_not_one_by_one(
    monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    monkeypatch.setattr("fastapi_rooms.servers.gateway.connection.CREDIT_DELAY", delay)
    published: Published = []

    async def publish(kind: FrameKind, sequence: int, body: bytes) -> None:
        published.append((kind, body))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "heard"})

    connection = VirtualConnection(publish, OPEN)
    task = asyncio.create_task(connection.run(app))
    for number in range(3):
        connection.received(Frame(FrameKind.TEXT, "00" * 8, bytes(8), number + 2, b"hello"))
        await eventually(lambda: count(published, FrameKind.TEXT) > number)  # noqa: B023 -- awaited
    if delay:
        assert count(published, FrameKind.CREDIT) == 0
    else:
        await eventually(lambda: credited(published) == 3)
    connection.client_gone()
    await task


def credited(published: Published) -> int:
    """How many messages were acknowledged."""
    bodies = [body for kind, body in published if kind is FrameKind.CREDIT]
    return sum(wire.unpack_credit(body)[1] for body in bodies)


async def test_a_release_is_over_when_the_carrier_has_accepted_it() -> None:
    accepted = asyncio.Event()
    published: Published = []

    async def publish(kind: FrameKind, sequence: int, body: bytes) -> None:
        published.append((kind, body))
        if kind is FrameKind.RELEASE:
            await accepted.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    connection = VirtualConnection(publish, OPEN)
    connection.task = asyncio.create_task(connection.run(app))
    await eventually(lambda: count(published, FrameKind.ACCEPT))
    releasing = asyncio.create_task(connection.release(10))
    await eventually(lambda: count(published, FrameKind.RELEASE))
    await eventually(connection.task.done)
    assert not releasing.done()
    accepted.set()
    await releasing
    await connection.release(10)
    assert count(published, FrameKind.RELEASE) == 1
