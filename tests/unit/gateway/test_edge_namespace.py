"""A socket as its endpoint in a backend has it, where the test is the edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket

from fastapi_rooms import (
    Backend,
    Namespace,
    RoomManager,
    SidInUse,
    Socket,
    SocketClosed,
    UsageError,
)
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import FrameKind
from tests.unit.gateway.support import Peer, Site

CONNECTION = b"12345678"

OPEN: dict[str, Any] = {
    "path": "/",
    "raw_path": "/",
    "query_string": "",
    "root_path": "",
    "http_version": "1.1",
    "scheme": "ws",
    "headers": [],
    "subprotocols": [],
    "sid": "ann",
    "attempt": 0,
    "lost": 0,
    "sockets": {},
}


class Edge:
    """Holds one client, and replies as the test has it."""

    def __init__(self, peer: Peer, backend: Backend) -> None:
        self._peer = peer
        self._backend = backend
        self._sequence = 0

    def say(self, kind: FrameKind, about: dict[str, Any]) -> None:
        self._sequence += 1
        said = kind, wire.to_json(about)
        self._peer.say(self._backend.manager.node, CONNECTION, said, first=self._sequence)

    def calls(self) -> list[dict[str, Any]]:
        """What it was asked for."""
        frames = [each for each in self._peer.heard if each.kind is FrameKind.CALL]
        return [wire.read_json(each.body) for each in frames]

    def verbs(self) -> list[str]:
        return [call["verb"] for call in self.calls()]

    async def reply(self, verb: str, **reply: Any) -> None:
        """Reply to what it was asked last, once that is this."""
        await eventually(lambda: self.verbs()[-1:] == [verb])
        self.say(FrameKind.REPLY, {"id": self.calls()[-1]["id"], **reply})

    def kinds(self) -> list[FrameKind]:
        return self._peer.kinds()


Endpoint = Callable[[RoomManager, WebSocket], Awaitable[None]]


@asynccontextmanager
async def holding(site: Site, endpoint: Endpoint) -> AsyncIterator[Edge]:
    """An edge whose client's endpoint this is."""
    backend = await site.backend(endpoint)
    edge = Edge(await site.peer(), backend)
    edge.say(FrameKind.OPEN, OPEN)
    yield edge
    await eventually(lambda: backend.clients == 0)
    assert backend.manager.sids == {}


class Here:
    """The endpoint's socket, for the test to use."""

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.over = asyncio.Event()

    async def endpoint(self, rooms: RoomManager, websocket: WebSocket) -> None:
        async with rooms.connect(websocket) as socket:
            self.sockets.append(socket)
            await self.over.wait()

    async def socket(self, edge: Edge) -> Socket:
        await edge.reply("enter")
        await eventually(lambda: self.sockets)
        return self.sockets[0]


async def test_what_an_edge_says_of_rooms_that_are_none_is_passed_over(site: Site) -> None:
    here = Here()
    async with holding(site, here.endpoint) as edge:
        socket = await here.socket(edge)
        for room in (1, None, ["tea"], "tea"):
            event = {"event": "join-room", "namespace": "/", "room": room}
            edge.say(FrameKind.EVENT, event)
        await eventually(lambda: socket.rooms == {"ann", "tea"})
        here.over.set()


async def test_a_join_that_its_socket_does_not_wait_for_comes_to_nothing(site: Site) -> None:
    """The edge has put it in, and takes it out as it is told that it has left."""
    here = Here()
    async with holding(site, here.endpoint) as edge:
        socket = await here.socket(edge)
        joining = asyncio.create_task(socket.join("tea"))
        await eventually(lambda: edge.verbs()[-1] == "join")
        number = edge.calls()[-1]["id"]
        await socket.disconnect(4000)
        edge.say(FrameKind.REPLY, {"id": number, "positions": {"tea": "1"}})
        await asyncio.wait((joining,))
        assert socket.rooms == set()
        assert edge.verbs() == ["enter", "join", "exit"]
        here.over.set()


async def test_a_socket_that_has_left_asks_its_edge_for_nothing_more(site: Site) -> None:
    here = Here()
    async with holding(site, here.endpoint) as edge:
        socket = await here.socket(edge)
        await socket.disconnect(4000)
        await eventually(lambda: edge.kinds()[-1] is FrameKind.CLOSE)
        asked = edge.verbs()
        await socket.leave("tea")
        await socket.disconnect(4001)
        with pytest.raises(SocketClosed):
            await socket.join("tea")
        assert edge.verbs() == asked
        assert edge.kinds().count(FrameKind.CLOSE) == 1
        here.over.set()


@pytest.mark.parametrize(
    ("error", "kind"),
    [("usage", UsageError), ("sid", SidInUse), ("away", WebSocketException)],
)
async def test_why_an_edge_does_not_let_a_socket_in_is_the_endpoints_error(
    site: Site, error: str, kind: type[Exception]
) -> None:
    raised: list[Exception] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        try:
            async with rooms.connect(websocket):
                raise AssertionError("it is in")
        except Exception as found:
            raised.append(found)
            raise

    async with holding(site, endpoint) as edge:
        await edge.reply("enter", error=error, text="not so")
        await eventually(lambda: raised)
    assert isinstance(raised[0], kind)


async def test_a_block_may_end_after_the_endpoint_that_began_it(site: Site) -> None:
    """A task that it has left behind has it; nothing of it is called then."""
    here, tasks = Here(), list[asyncio.Task[None]]()

    async def leaves(rooms: RoomManager, websocket: WebSocket) -> None:
        tasks.append(asyncio.create_task(here.endpoint(rooms, websocket)))
        await eventually(lambda: here.sockets)

    async with holding(site, leaves) as edge:
        await here.socket(edge)
        await eventually(lambda: edge.kinds()[-1] is FrameKind.CLOSE)
        here.over.set()
        await asyncio.wait(tasks)
        assert tasks[0].exception() is None


async def test_a_socket_knows_the_namespace_that_it_is_in(site: Site) -> None:
    found: list[tuple[Namespace, Namespace]] = []

    async def endpoint(rooms: RoomManager, websocket: WebSocket) -> None:
        namespace = rooms.of("/chat")
        async with namespace.connect(websocket) as socket:
            found.append((socket.namespace, namespace))

    async with holding(site, endpoint) as edge:
        await edge.reply("enter")
        await eventually(lambda: found)
    ((own, given),) = found
    assert own is given
