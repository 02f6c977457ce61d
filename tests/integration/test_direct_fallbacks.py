"""Whatever is not known of a uvicorn's connection, it is left as it was, and written to by ASGI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastapi_rooms import RoomManager, Socket
from fastapi_rooms.servers.uvicorn import connection as uvicorn_connection
from fastapi_rooms.servers.uvicorn import server as uvicorn_server
from tests.integration.raw import (
    RawClient,
    on_every_uvicorn,
    serving,
    wait_for_client,
)

pytestmark = on_every_uvicorn


def test_the_connection_is_as_it_was_when_the_block_is_over(ws: str, loop: str) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    limits: list[tuple[int, int]] = []

    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        protocol = socket.websocket._receive.__self__  # type: ignore[attr-defined]
        hooks = {"pause_writing", "resume_writing", "connection_lost", "shutdown"}
        inside = hooks & set(vars(protocol))
        limits.append(protocol.transport.get_write_buffer_limits())
        socket._transport.stop()
        limits.append(protocol.transport.get_write_buffer_limits())
        seen.append((inside, hooks & set(vars(protocol))))

    with serving(endpoint, ws=ws, loop=loop) as port, RawClient(port) as client:
        client.read_to_close()
    assert seen == [({"pause_writing", "resume_writing", "connection_lost", "shutdown"}, set())]
    assert limits == [(0, 0), (16 * 1024, 64 * 1024)]


Doubt = Callable[[pytest.MonkeyPatch], dict[str, Any]]


def untested_version(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(uvicorn_server, "NEWEST_UVICORN", (0, 1))
    return {}


def version_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("uvicorn.__version__", "main")
    return {}


def other_implementation(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(uvicorn_connection, "_IMPLEMENTATIONS", {})
    return {}


def wrapped_receive(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def wrap(app: Any) -> Any:
        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            async def wrapped() -> Any:
                return await receive()

            await app(scope, wrapped, send)

        return middleware

    return {"wrap": wrap}


def turned_off(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return {"rooms": RoomManager(direct_writes=False)}


@pytest.mark.parametrize(
    "doubt",
    [
        untested_version,
        version_that_is_no_number,
        other_implementation,
        wrapped_receive,
        turned_off,
    ],
)
def test_every_doubt_falls_back_to_asgi(
    ws: str, loop: str, doubt: Doubt, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endpoint(rooms: RoomManager, socket: Socket) -> None:
        await rooms.to("room").send_text(socket.transport)
        await wait_for_client(socket)

    with (
        serving(endpoint, ws=ws, loop=loop, **doubt(monkeypatch)) as port,
        RawClient(port) as client,
    ):
        assert client.read_frame().data == b"asgi"
