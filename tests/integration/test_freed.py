"""What is left of a connection that is over: nothing that waits for the garbage collector.

With each client that goes, the server's connection goes too, and the buffers that hang on it. Left
to the collector, they pile up by the thousand before it next looks at what is old.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

from fastapi_rooms import OutboxPolicy, RoomManager, Socket
from fastapi_rooms.worker import connection as connection_module
from tests.integration.partings import (
    begin_framing,
    is_dismissed,
    reads_on,
    returns,
    says_goodbye,
    says_nothing,
    stays,
)
from tests.integration.raw import Endpoint, RawClient, on_every_uvicorn, serving, wait_for_client
from tests.integration.servers import wait_until

pytestmark = [*on_every_uvicorn, pytest.mark.usefixtures("no_collector")]


async def is_given_up(rooms: RoomManager, socket: Socket) -> None:
    while socket.sid in rooms.sids:
        await rooms.to(socket.sid).send_text("x" * 100_000)
    await wait_for_client(socket)


@pytest.mark.parametrize("query", ["", "?fastapi_rooms=1"], ids=["plain", "framed"])
@pytest.mark.parametrize("direct", [True, False], ids=["direct", "asgi"])
@pytest.mark.parametrize(
    ("endpoint", "client_does"),
    [
        (stays, says_nothing),
        (stays, says_goodbye),
        (returns, reads_on),
        (is_dismissed, reads_on),
        (is_given_up, reads_on),
    ],
)
def test_a_connection_that_is_over_is_freed_at_once(
    endpoint: Endpoint,
    client_does: Callable[[RawClient], None],
    ws: str,
    loop: str,
    direct: bool,
    query: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT", 0.2)
    connections: list[weakref.ref[Any]] = []

    async def seen(rooms: RoomManager, socket: Socket) -> None:
        connections.append(weakref.ref(socket.websocket))
        await endpoint(rooms, socket)

    rooms = RoomManager(outbox=OutboxPolicy(max_bytes=200_000), direct_writes=direct)
    if query:
        rooms.history("room")
    with serving(seen, rooms, ws=ws, loop=loop) as port:
        for _ in range(2):
            with RawClient(port, query=query) as client:
                if query:
                    begin_framing(client)
                client_does(client)
        wait_until(lambda: len(connections) == 2 and not any(known() for known in connections))
