"""Whose silence it is: that of a backend, or of the carrier."""

from __future__ import annotations

import pytest
from starlette.websockets import WebSocket

from fastapi_rooms import RoomManager
from fastapi_rooms.testing import eventually
from tests.unit.gateway.support import Site


async def answers(rooms: RoomManager, websocket: WebSocket) -> None:
    await websocket.accept()


async def test_while_its_own_heartbeats_do_not_come_back_nobody_is_dead_to_an_edge(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "edge"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.01)
    edge = await site.edge()
    backend = await site.backend(answers)
    tick, come_back = edge.tick, False
    lates: list[bool] = []

    def ticks(now: float, *, late: bool) -> None:
        lates.append(late)
        edge.frames.echoes += come_back
        tick(now, late=late)

    monkeypatch.setattr(edge, "tick", ticks)
    edge.frames.echoes += 1
    await eventually(lambda: lates and lates[-1])
    monkeypatch.setattr(backend, "beat", lambda **_: None)
    silent = len(lates)
    await eventually(lambda: len(lates) > silent + 10)
    assert all(lates[silent:])
    assert edge.backends
    come_back = True
    await eventually(lambda: not edge.backends)
