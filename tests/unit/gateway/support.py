"""Edges and backends in one event loop, on a carrier in memory, and clients without a network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from fastapi_rooms import Backend, Gateway, RoomManager
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire.gateway import Frame, FrameKind, to_json
from tests.framed_client import Framing, Message

Endpoint = Callable[[RoomManager, WebSocket], Awaitable[None]]

ASKING = "/?fastapi_rooms=1"


class Site:
    """Edges and backends of one carrier. All of them remember the rooms `chat-*`."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._url = f"memory://{uuid4().hex}"
        self._edges: list[Gateway] = []

    def manager(self, **settings: Any) -> RoomManager:
        """One more, which is not started."""
        rooms = RoomManager(self._url, linger=0, **settings)
        rooms.history("chat-*", size=50)
        return rooms

    async def edge(self, rooms: RoomManager | None = None, **options: Any) -> Gateway:
        """Start an edge."""
        gateway = Gateway(rooms or self.manager(), routes={"/": "app"}, **options)
        await self._stack.enter_async_context(gateway)
        self._edges.append(gateway)
        return gateway

    async def backend(
        self, endpoint: Endpoint, rooms: RoomManager | None = None, **options: Any
    ) -> Backend:
        """Start a backend with an endpoint for every path, and have all edges know it."""
        manager = rooms or self.manager()

        async def run(websocket: WebSocket) -> None:
            await endpoint(manager, websocket)

        app = Starlette(routes=[WebSocketRoute("/{path:path}", run)])
        options = {"drain_timeout": 0.02} | options
        backend = Backend(app, name="app", adapter=manager, **options)
        await self._stack.enter_async_context(backend)
        await eventually(lambda: all(manager.node in edge.backends for edge in self._edges))
        return backend

    async def peer(self) -> Peer:
        """Something that speaks frames, and no more."""
        return Peer(await self._stack.enter_async_context(self.manager()))

    async def forger(self, edge: Gateway, **about: Any) -> Peer:
        """A backend that says whatever the test has it say; the edge knows it."""
        peer = await self.peer()
        peer.beat(**{"role": "backend", "name": "app", "clients": 0, "capacity": 9} | about)
        await eventually(lambda: peer.node in edge.backends)
        return peer

    async def replace(self, backend: Backend, endpoint: Endpoint) -> Backend:
        """Have another backend go on."""
        other = await self.backend(endpoint)
        await backend.close()
        return other


class FramedClient(WebSocketClient):
    """A client that speaks the framing.

    Args:
        framing: what it has kept from its connection before.
        greets: whether it answers the hello by itself.
    """

    def __init__(self, app: Any, framing: Framing, path: str = ASKING, *, greets: bool = True):
        super().__init__(app, path)
        self.framing = framing
        self._greets = greets
        self._messages: list[Message] = []

    async def open(self, timeout: float = 10.0) -> None:
        await super().open(timeout)
        if self._greets:
            await self.send_text(self.framing.greet(await super().receive(timeout)))

    async def receive(self, timeout: float = 10.0) -> Message:
        """The next message; what else is said is read on the way."""
        while not self._messages:
            self._messages += self.framing.read(await super().receive(timeout))
        return self._messages.pop(0)


class Peer:
    """Whatever speaks frames on the carrier: a backend, or an edge, as the test has it.

    Args:
        rooms: a manager that runs, by which it speaks.
    """

    def __init__(self, rooms: RoomManager) -> None:
        self._frames = rooms._runtime.run.frames
        self._frames.receivers.append(self)
        self.node = self._frames.node
        self.heard: list[Frame] = []
        """All but heartbeats."""

    def received(self, frame: Frame) -> bool:
        if frame.kind is not FrameKind.BEAT:
            self.heard.append(frame)
        return True

    def unknown(self, frame: Frame) -> None:
        raise AssertionError(frame)

    def gap(self) -> None:
        """It does not care."""

    def role(self) -> dict[str, Any]:
        return {}

    def beat(self, **about: Any) -> None:
        """Tell everyone that it is there."""
        post(self._frames.publish(None, self._frame(FrameKind.BEAT, bytes(8), 0, to_json(about))))

    def say(
        self, to: str, connection: bytes, *said: tuple[FrameKind, bytes], first: int = 1
    ) -> None:
        """Say something on a connection, numbered as it should be."""
        for sequence, (kind, body) in enumerate(said, first):
            post(self._frames.publish(to, self._frame(kind, connection, sequence, body)))

    def forge(self, to: str, frame: Frame) -> None:
        """Say something in the name of another, as whoever may publish can."""
        post(self._frames.publish(to, frame))

    def _frame(self, kind: FrameKind, connection: bytes, sequence: int, body: bytes) -> Frame:
        return Frame(kind, self.node, connection, sequence, body)

    def kinds(self) -> list[FrameKind]:
        """What it has heard, in short."""
        return [frame.kind for frame in self.heard]


ACCEPT = FrameKind.ACCEPT, to_json({"subprotocol": None, "headers": [], "rooms": False})
