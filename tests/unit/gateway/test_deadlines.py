"""How long a client waits for an endpoint, and that nothing is begun again without an end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from starlette.responses import Response
from starlette.websockets import WebSocket

from fastapi_rooms import Gateway, RoomManager
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.support import Site


async def answers(rooms: RoomManager, websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.send_text(f"hello {socket.attempt}")
        await socket.wait_closed()


async def test_an_endpoint_that_accepts_too_late_is_given_up_and_not_begun_again(
    site: Site,
) -> None:
    begun: list[WebSocket] = []

    async def hesitates(rooms: RoomManager, websocket: WebSocket) -> None:
        begun.append(websocket)
        await asyncio.Event().wait()

    edge = await site.edge(open_timeout=0.05)
    await site.backend(hesitates)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 503
    assert len(begun) == 1
    await eventually(lambda: edge.clients == 0)


async def test_one_that_hesitates_for_an_accepted_client_has_until_it_is_closed(
    site: Site,
) -> None:
    async def hesitates(rooms: RoomManager, websocket: WebSocket) -> None:
        await go.wait()
        await answers(rooms, websocket)

    go = asyncio.Event()
    edge = await site.edge(open_timeout=0.05, reattach_timeout=60)
    backend = await site.backend(answers)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "hello 0"
        await site.replace(backend, hesitates)
        given_up = asyncio.get_running_loop().time() + 0.1
        await eventually(lambda: asyncio.get_running_loop().time() > given_up)
        go.set()
        assert await client.receive() == "hello 1"


async def test_a_backend_that_refuses_every_opening_is_not_asked_when_the_time_is_over(
    site: Site,
) -> None:
    edge = await site.edge(open_timeout=0.1)
    forger = await site.forger(edge)
    opening = asyncio.create_task(WebSocketClient(edge, "/").open())
    await eventually(lambda: forger.heard)
    forger.say(edge.manager.node, forger.heard[0].connection, (FrameKind.RESET, b""))
    with pytest.raises(Rejected) as refused:
        await opening
    assert refused.value.status == 503
    assert forger.kinds() == [FrameKind.OPEN, FrameKind.RESET]


@pytest.mark.parametrize("code", [5000, 999, 1005, 70_000, -1])
async def test_an_endpoint_that_closes_by_what_is_no_close_code_is_not_begun_again(
    site: Site, code: int
) -> None:
    begun: list[WebSocket] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        begun.append(websocket)
        await websocket.accept()
        await websocket.close(code)

    edge = await site.edge()
    await site.backend(endpoint)
    async with WebSocketClient(edge, "/") as client:
        assert await client.wait_closed() == 1011
        await client.wait_ended()
    assert len(begun) == 1


@pytest.mark.parametrize("status", [101, 700, 70_000])
async def test_one_that_refuses_by_what_is_no_status_is_an_internal_error(
    site: Site, status: int
) -> None:
    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.send_denial_response(Response(status_code=status))

    edge = await site.edge()
    await site.backend(endpoint)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 500


async def test_one_that_accepts_with_what_are_no_headers_is_an_internal_error(site: Site) -> None:
    headers: Any = [("x-name", "no bytes")]

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.send({"type": "websocket.accept", "headers": headers})

    edge = await site.edge()
    await site.backend(endpoint)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 500


async def test_clients_that_are_not_reattached_are_closed_one_after_the_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter([0.0, 3600.0])
    edge = await site.edge(reattach=False)
    monkeypatch.setattr(edge.turns, "wait", lambda _: next(turns))
    backend = await site.backend(answers)
    async with WebSocketClient(edge, "/") as one, WebSocketClient(edge, "/") as two:
        assert await one.receive() == await two.receive() == "hello 0"
        await backend.close()
        ends = [asyncio.ensure_future(each.wait_closed()) for each in (one, two)]
        (ended,), (other,) = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        assert ended.result() == 1012
        assert edge.clients == 1
        other.cancel()


async def test_an_edge_that_stood_still_hears_that_its_endpoints_are_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("member", "backend"):
        monkeypatch.setattr(f"fastapi_rooms.gateway.{module}.INTERVAL", 0.02)
    edge = await site.edge()
    backend = await site.backend(answers)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "hello 0"
        monkeypatch.setattr(edge, "beat", lambda **_: None)
        assert await client.receive() == "hello 1"
        assert backend.clients == 1


async def test_a_backend_whose_manager_drains_gets_no_more_clients(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.member.INTERVAL", 0.02)
    edge = await site.edge()
    backend = await site.backend(answers)
    await backend.manager.drain()
    await eventually(lambda: not edge.backends)


async def test_the_time_of_who_waits_runs_only_while_the_carrier_is_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    edge = await site.edge(reattach_timeout=0.01)
    backend = await site.backend(answers)

    def is_cut_off(_: Gateway) -> bool:
        asked.append(len(asked) < 5)
        return asked[-1]

    monkeypatch.setattr(Gateway, "is_cut_off", property(is_cut_off))
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "hello 0"
        await backend.close()
        assert await client.wait_closed() == 1013
    assert asked == [True] * 5 + [False]


async def test_the_carrier_counts_as_away_for_as_long_again_as_a_client_waits(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = await site.edge(reattach_timeout=60)
    assert edge.is_cut_off, "it was there only just now"
    edge.reattach_timeout = 0.0
    assert [edge.is_cut_off] == [False]
    health = replace(edge.manager.health, connected=False)
    monkeypatch.setattr(RoomManager, "health", property(lambda _: health))
    assert edge.is_cut_off
