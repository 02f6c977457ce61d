"""What is left of a client of an edge: nothing that waits for the garbage collector."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.gateway import client as edge_client
from fastapi_rooms.gateway import conversation
from fastapi_rooms.worker import connection as connection_module
from tests.behind_edge import BehindEdge
from tests.integration.partings import (
    begin_framing,
    is_dismissed,
    reads_on,
    returns,
    says_goodbye,
    says_nothing,
    stays,
)
from tests.integration.raw import Endpoint, RawClient, serving
from tests.integration.servers import wait_until


@pytest.mark.usefixtures("no_collector")
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
                    begin_framing(client)
                wait_until(lambda: len(in_backend) > number)  # noqa: B023 -- it is not kept
                client_does(client)
        assert len(in_backend) == len(at_edge) == 2
        wait_until(lambda: not any(known() for known in in_backend))
        wait_until(lambda: not any(known() for known in at_edge))
