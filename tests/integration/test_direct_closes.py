"""A uvicorn that stops, and what can happen to a client before it is its turn to be closed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.core import drain_schedule as departures_module
from tests.integration.raw import Endpoint, RawClient, on_every_uvicorn, serving, wait_for_client
from tests.integration.servers import wait_until
from tests.integration.uvicorn_thread import Port

TEXT, CLOSE = 1, 8
FOR_EVER = 1e9

pytestmark = on_every_uvicorn


@contextmanager
def leaving(
    monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, **options: Any
) -> Iterator[tuple[Port, RawClient]]:
    """A worker that is leaving, and one of its clients, whose turn will not come in this test."""
    monkeypatch.setattr(departures_module, "IMMEDIATE_MAX", 0)
    monkeypatch.setattr(departures_module, "CLOSES_PER_SECOND", 1 / FOR_EVER)
    outbox = options.pop("outbox", OutboxPolicy())
    rooms = RoomManager(outbox=outbox, drain_window=2 * FOR_EVER, drain_timeout=0.2)
    with serving(endpoint, rooms, **options) as port, RawClient(port) as client:
        wait_until(lambda: "room" in rooms.rooms)
        with RawClient(port):
            wait_until(lambda: len(rooms.rooms["room"]) == 2)
            port.stop()
            wait_until(lambda: not rooms.health.ready)
        wait_until(lambda: len(rooms.rooms["room"]) == 1)
        yield port, client
        wait_until(port.stopped)


async def stays(rooms: RoomManager, socket: Socket) -> None:
    await wait_for_client(socket)


def test_a_client_that_goes_before_its_turn_is_waited_for_no_longer(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leaving(monkeypatch, stays, ws=ws, loop=loop) as (_, client):
        client.close()


def test_a_client_that_says_goodbye_before_its_turn_is_answered(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leaving(monkeypatch, stays, ws=ws, loop=loop) as (_, client):
        client.send(CLOSE, (1001).to_bytes(2))
        assert [frame.close_code for frame in client.read_to_close()] == [1001]


def test_an_endpoint_that_ends_before_its_clients_turn_closes_it_and_waits_for_no_answer(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await socket.receive_text()

    with leaving(monkeypatch, endpoint, ws=ws, loop=loop) as (_, client):
        client.send(TEXT, b"that is all")
        assert [frame.close_code for frame in client.read_to_close()] == [1000]


def test_a_client_that_wants_to_join_before_its_turn_is_closed_by_that(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await socket.join(await socket.receive_text())

    with leaving(monkeypatch, endpoint, ws=ws, loop=loop) as (_, client):
        client.send(TEXT, b"another room")
        assert [frame.close_code for frame in client.read_to_close()] == [1012]


def test_rooms_work_as_ever_until_it_is_a_clients_turn(
    ws: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        async for text in socket.iter_text():
            await rooms.to("room").send_text(text)

    with leaving(monkeypatch, endpoint, ws=ws, loop=loop) as (_, client):
        for text in (b"one", b"two"):
            client.send(TEXT, text)
            assert client.read_frame().data == text
        client.close()


@pytest.mark.parametrize("outbox", [OutboxPolicy(), OutboxPolicy(max_bytes=1 << 30)])
def test_a_client_that_stops_reading_before_its_turn_does_not_hold_up_the_end(
    ws: str, loop: str, outbox: OutboxPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.worker.connection.CLOSE_TIMEOUT", 0.2)

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await socket.receive_text()
        for _ in range(100):  # past one of the limits, and past what the kernel takes by far
            await rooms.to("room").send_text("x" * 100_000)

    with leaving(monkeypatch, endpoint, ws=ws, loop=loop, outbox=outbox) as (port, client):
        client.send(TEXT, b"go on")
        wait_until(port.stopped)


def test_a_connection_that_nobody_else_will_close_is_closed_by_the_server_at_once(
    ws: str, loop: str
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        socket._transport._on_shutdown = lambda within: None  # type: ignore[attr-defined]
        await socket.send_text("ready")
        await wait_for_client(socket)

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        assert client.read_frame().data == b"ready"
        port.stop()
        assert [frame.close_code for frame in client.read_to_close()] == [1012]
