"""A client of an edge and its backends, where something of it goes wrong or comes late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, Gateway, NotStarted, RoomManager
from fastapi_rooms.errors import ConfigurationError
from fastapi_rooms.gateway.backend import Backend
from fastapi_rooms.servers import edge_of
from fastapi_rooms.testing import Rejected, WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from fastapi_rooms.worker.events import Gap
from tests.unit.gateway.entered import entered
from tests.unit.gateway.support import ACCEPT, Site

TEXT = FrameKind.TEXT, b"text"
CLOSE = FrameKind.CLOSE, wire.pack_close(4000, "over")


def lost_of(websocket: WebSocket) -> int:
    edge = edge_of(websocket.scope)
    assert edge is not None
    return edge.lost


async def echoes(rooms: RoomManager, websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.send_text(f"attempt {socket.attempt}, lost {lost_of(websocket)}")
        async for text in socket.iter_text():
            await socket.send_text(text)


def raising_on(app: Any, kind: str, error: Exception) -> Any:
    """The application, on a server that raises when it is sent this."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def sends(message: Message) -> None:
            if message["type"] == kind:
                raised.append(kind)
                raise error
            await send(message)

        await app(scope, receive, sends)

    raised = run.raised = []  # type: ignore[attr-defined]  # for the test to look at
    return run


# At a server that raises.


async def test_a_client_that_has_gone_before_it_is_accepted_is_over_for_its_backend(
    site: Site,
) -> None:
    edge = await site.edge()
    forger = await site.forger(edge)
    client = WebSocketClient(raising_on(edge, "websocket.accept", OSError("gone")), "/")
    opening = asyncio.create_task(client.open())
    await eventually(lambda: forger.heard)
    forger.say(edge.manager.node, forger.heard.pop().connection, ACCEPT)
    await eventually(lambda: forger.kinds() == [FrameKind.CLOSE])
    assert wire.unpack_close(forger.heard[0].body) == (1006, "")
    await asyncio.wait((opening,))
    assert opening.exception() is not None
    assert edge.clients == 0


async def test_a_server_that_fails_to_close_a_client_is_left_alone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    edge = await site.edge()
    app = raising_on(edge, "websocket.close", ValueError("what a server raises"))
    async with entered(site, edge, app=app) as here:
        here.say(CLOSE)
        await here.client.wait_ended()
        assert app.raised == ["websocket.close"]
        assert not [one for one in caplog.records if one.levelname == "ERROR"]
        assert edge.clients == 0


async def test_a_client_that_takes_nothing_is_not_waited_for_when_it_is_closed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi_rooms.gateway.client.CLOSE_TIMEOUT", 0.0)
    monkeypatch.setattr("fastapi_rooms.worker.connection.CLOSE_TIMEOUT", 0.0)
    edge = await site.edge()
    async with entered(site, edge) as here:
        here.client.stall()
        here.say(TEXT, CLOSE)
        await here.client.wait_ended()
        assert here.client.unread == []
        assert edge.clients == 0


@pytest.mark.parametrize("enters", [True, False])
async def test_what_is_sent_to_a_client_that_is_gone_ends_nobody(site: Site, enters: bool) -> None:
    edge = await site.edge()
    app = raising_on(edge, "websocket.send", OSError("gone"))
    async with entered(site, edge, enters=enters, app=app) as here:
        here.say(TEXT)
        await eventually(lambda: app.raised)
        if not enters:  # else its socket is lost, and the server has still to say that it is gone
            here.say(CLOSE)
            await here.client.wait_ended()
        assert edge.frames.malformed == 0


async def test_a_server_that_can_send_no_status_is_asked_to_refuse(site: Site) -> None:
    edge = await site.edge(open_timeout=0.001)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "subprotocols": []}
    await edge(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_client_that_is_gone_before_its_handshake_is_read_has_no_place(site: Site) -> None:
    edge = await site.edge()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        sent.append(message)

    await edge({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert sent == []
    assert edge.clients == 0


# Between backends.


def publishing(
    edge: Gateway, monkeypatch: pytest.MonkeyPatch, kind: FrameKind, outcome: Callable[[], Any]
) -> list[Frame]:
    """Have the first frame of a kind go nowhere, with this outcome; returns where it will be."""
    publish, kept = edge.frames.publish, list[Frame]()

    async def kept_back() -> Any:
        return outcome()

    def publishes(to: str | None, frame: Frame) -> Awaitable[int | None]:
        if frame.kind is kind and not kept:
            kept.append(frame)
            return kept_back()
        return publish(to, frame)

    monkeypatch.setattr(edge.frames, "publish", publishes)
    return kept


async def test_a_backend_that_cannot_be_reached_is_not_the_clients_last(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise AdapterUnavailable("away")

    monkeypatch.setattr("fastapi_rooms.gateway.client.RETRY", 0.01)
    edge = await site.edge()
    await site.backend(echoes)
    kept = publishing(edge, monkeypatch, FrameKind.OPEN, away)
    async with WebSocketClient(edge, "/") as client:
        assert await client.receive() == "attempt 0, lost 0"
        assert kept


async def test_a_backend_that_says_nothing_to_an_opening_is_told_that_it_is_over(
    site: Site,
) -> None:
    edge = await site.edge(open_timeout=0.02)
    forger = await site.forger(edge)
    with pytest.raises(Rejected) as refused:
        await WebSocketClient(edge, "/").open()
    assert refused.value.status == 503
    await eventually(lambda: forger.kinds()[-1] is FrameKind.RESET)
    assert forger.kinds()[0] is FrameKind.OPEN


@pytest.mark.parametrize("certain", [True, False])
async def test_what_has_reached_nobody_is_for_the_next_endpoint_unless_it_may_have(
    site: Site, monkeypatch: pytest.MonkeyPatch, certain: bool
) -> None:
    """It may, if the carrier was away since: what it had not confirmed is written once more."""
    edge = await site.edge()
    if not certain:
        module = "fastapi_rooms.gateway.outbound.time"
        monkeypatch.setattr(module, SimpleNamespace(time=lambda: 0.0))
    async with entered(site, edge) as here:
        await site.backend(echoes)
        kept = publishing(edge, monkeypatch, FrameKind.TEXT, lambda: 0)
        await here.client.send_text("anyone?")
        heard = [await here.client.receive()]
        assert [frame.body for frame in kept] == [b"anyone?"]
        await here.client.send_text("last")
        heard += await here.client.receive_until("last")
    if certain:
        assert heard == ["attempt 1, lost 0", "anyone?"]
    else:
        assert heard == ["attempt 1, lost 1"]


async def test_a_backend_that_dies_when_it_has_closed_its_client_has_closed_it(site: Site) -> None:
    edge = await site.edge()
    async with entered(site, edge) as here:
        await site.backend(echoes)
        here.client.stall()
        here.say(TEXT, CLOSE)
        (conversation,) = edge._conversations.values()
        await eventually(lambda: conversation._is_closed)
        edge.is_gone(here.forger.node)
        here.client.resume()
        assert await here.client.receive() == "text"
        assert await here.client.wait_closed() == 4000


async def test_a_backend_that_says_it_took_more_than_was_sent_is_lost_and_nothing_is_repeated(
    site: Site,
) -> None:
    edge = await site.edge()
    async with entered(site, edge) as here:
        await here.client.send_text("one")
        await eventually(lambda: FrameKind.TEXT in here.forger.kinds())
        await site.backend(echoes)
        here.say((FrameKind.RELEASE, wire.pack_release(99)))
        assert await here.client.receive() == "attempt 1, lost 1"
        await here.client.send_text("last")
        assert await here.client.receive() == "last"


@pytest.mark.parametrize("has_backend", [True, False])
async def test_a_gap_has_the_endpoint_opened_again_if_there_is_one(
    site: Site, has_backend: bool
) -> None:
    edge = await site.edge()
    async with entered(site, edge) as here:
        await here.reply(here.ask("join", rooms=["tea"]))
        if not has_backend:
            here.say((FrameKind.RESET, b""))
            await eventually(lambda: not edge._conversations)
        else:
            await site.backend(echoes)
        edge.manager._here.tell(Gap(0, 0, ("tea",)))
        if not has_backend:
            await site.backend(echoes)
        assert await here.client.receive() == "attempt 1, lost 0"


async def test_what_is_not_done_to_a_socket_costs_nothing(site: Site) -> None:
    """To watch a room without a history, and to leave what was not claimed where all was."""
    edge = await site.edge()
    async with entered(site, edge) as here:
        await here.reply(here.ask("join", rooms=["plain"]))
        here.ask("watch", rooms=["plain"])
        here.ask("fresh")
        await here.client.send_text("one")
        await eventually(lambda: FrameKind.TEXT in here.forger.kinds())
        assert FrameKind.EVENT not in here.forger.kinds()
        assert "plain" in edge.manager.rooms


# Members.


@pytest.mark.parametrize("about", [{"clients": -1}, {"capacity": 0}, {"clients": "many"}])
async def test_a_heartbeat_that_cannot_be_is_counted_and_changes_nothing(
    site: Site, about: dict[str, Any]
) -> None:
    edge = await site.edge()
    forger = await site.forger(edge)
    forger.beat(**{"role": "backend", "name": "app", "clients": 0, "capacity": 9} | about)
    await eventually(lambda: edge.frames.malformed == 1)
    assert list(edge.backends) == [forger.node]


async def test_users_of_a_namespace_that_is_not_in_use_are_nobodys(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    backend = await site.backend(echoes)
    peer = await site.peer()
    users = wire.pack_users(wire.Users("/nowhere", "tea", [], frozenset()))
    opening = FrameKind.OPEN, b"{}"
    peer.say(backend.manager.node, b"12345678", (FrameKind.USERS, users), opening)
    await eventually(lambda: peer.kinds() == [FrameKind.RESET])
    assert "/nowhere" not in backend.manager._runtime.living
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


async def test_an_endpoint_that_ends_with_what_is_no_exception_is_in_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(BaseException):
        pass

    async def stops(rooms: RoomManager, websocket: WebSocket) -> None:
        await websocket.accept()
        raise Stop("on purpose")

    edge = await site.edge()
    backend = await site.backend(stops)
    client = WebSocketClient(edge, "/")
    await client.open()
    await eventually(lambda: "on purpose" in caplog.text)
    await eventually(lambda: backend.clients == 0)
    await client.close()


async def test_the_lifespan_of_an_application_can_be_that_of_an_edge(site: Site) -> None:
    edge = Gateway(site.manager(), routes={"/": "app"})
    with pytest.raises(NotStarted):
        _ = edge.frames
    async with edge.lifespan():
        assert edge.frames.receivers == [edge]
    with pytest.raises(NotStarted):
        await WebSocketClient(edge, "/").open()


@pytest.mark.parametrize(
    "options",
    [{"capacity": 2.5}, {"capacity": True}, {"name": 5}, {"name": ""}, {"drain_timeout": -1}],
)
def test_a_backend_refuses_what_its_options_cannot_be(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        Backend(Starlette(), **{"name": "app", **options})


def test_a_backend_takes_one_client_at_least(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="capacity must be"):
        Backend(Starlette(), name="app", adapter=site.manager(), capacity=0)
