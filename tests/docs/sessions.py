"""What the tests of examples do with clients, again and again."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import RoomManager
from tests.integration.servers import wait_until


@contextmanager
def joined(
    client: TestClient, rooms: RoomManager, *paths: str, room: str = "tea"
) -> Iterator[list[WebSocketTestSession]]:
    """Clients, of which the manager knows that they are in the room."""
    sessions = [client.websocket_connect(path) for path in paths]
    for session in sessions:
        session.__enter__()
    wait_until(lambda: len(rooms.rooms.get(room, ())) == len(paths))
    yield sessions
    for session in sessions:
        session.__exit__(None, None, None)
    wait_until(lambda: not rooms.sids)


def ends_with(session: WebSocketTestSession) -> tuple[int, str]:
    with pytest.raises(WebSocketDisconnect) as end:
        session.receive_text()
    return end.value.code, end.value.reason


def post(address: str, path: str, value: object) -> None:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("POST", path, json.dumps(value), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()
