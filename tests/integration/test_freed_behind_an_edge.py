"""What is left of a client of an edge: nothing that waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.gateway import client as edge_client
from fastapi_rooms.gateway import conversation
from fastapi_rooms.worker import connection as connection_module
from tests.behind_edge import BehindEdge
from tests.integration.raw import Endpoint, RawClient, serving, wait_for_client
from tests.integration.servers import wait_until

TEXT, CLOSE = 1, 8


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def stays(rooms: RoomManager, socket: Socket) -> None:
    await wait_for_client(socket)


async def returns(rooms: RoomManager, socket: Socket) -> None:
    await socket.send_text("so long")


async def is_dismissed(rooms: RoomManager, socket: Socket) -> None:
    await rooms.to(socket.sid).disconnect_sockets()
    await wait_for_client(socket)


def says_nothing(client: RawClient) -> None:
    client.close()


def says_goodbye(client: RawClient) -> None:
    client.send(CLOSE, b"\x03\xe8")
    client.read_to_close()


def reads_on(client: RawClient) -> None:
    closing = client.read_to_close()[-1]
    client.send(CLOSE, closing.data)


@pytest.mark.parametrize("query", ["", "?fastapi_rooms=1"], ids=["plain", "framed"])
@pytest.mark.parametrize(
    ("endpoint", "client_does"),
    [(stays, says_nothing), (stays, says_goodbye), (returns, reads_on), (is_dismissed, reads_on)],
)
def test_a_client_that_is_gone_is_freed_at_once(
    endpoint: Endpoint,
    client_does: Callable[[RawClient], None],
    query: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (connection_module, conversation, edge_client):
        monkeypatch.setattr(module, "CLOSE_TIMEOUT", 0.2)
    at_edge: list[weakref.ref[Any]] = []
    in_backend: list[weakref.ref[Any]] = []

    class Seen(WebSocket):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            at_edge.append(weakref.ref(self))

    monkeypatch.setattr(edge_client, "WebSocket", Seen)

    async def seen(rooms: RoomManager, socket: Socket) -> None:
        in_backend.append(weakref.ref(socket.websocket))
        await endpoint(rooms, socket)

    def manager() -> RoomManager:
        rooms = RoomManager("memory://freed", outbox=OutboxPolicy(max_bytes=200_000))
        if query:
            rooms.history("room")
        return rooms

    rooms = manager()
    with serving(seen, rooms, wrap=lambda app: BehindEdge(app, rooms, manager())) as port:
        for number in range(2):
            with RawClient(port, query=query) as client:
                if query:
                    assert client.read_frame().data.startswith(b"\0h")
                    client.send(TEXT, b"\0r{}")
                wait_until(lambda: len(in_backend) > number)  # noqa: B023 -- it is not kept
                client_does(client)
        assert len(in_backend) == len(at_edge) == 2
        wait_until(lambda: not any(known() for known in in_backend))
        wait_until(lambda: not any(known() for known in at_edge))
