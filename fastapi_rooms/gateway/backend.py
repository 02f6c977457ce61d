"""A backend: runs an application's endpoints for clients that edges hold."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from fastapi_rooms.adapters import AdapterLike
from fastapi_rooms.core.checks import check_count, check_not_negative
from fastapi_rooms.core.placement import MISSED
from fastapi_rooms.core.routes import check_name
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.gateway.health import BackendHealth
from fastapi_rooms.gateway.learning import PATIENCE
from fastapi_rooms.gateway.member import INTERVAL, Member
from fastapi_rooms.gateway.users import MAX_PATTERNS
from fastapi_rooms.manager import RoomManager
from fastapi_rooms.servers import VirtualConnection
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from fastapi_rooms.worker.edge_carrier import HELD, Held

logger = logging.getLogger("fastapi_rooms")

Key = tuple[NodeId, bytes]


class Backend(Member):
    """Runs the WebSocket endpoints of an application, unchanged, for clients of edges.

        async with Backend(app, name="chat", adapter=rooms):
            ...  # as long as this is to serve

    It has no port. It may run beside a server of the same application, in its lifespan.

    Args:
        app: the ASGI application. Its lifespan is not run by this.
        name: what edges call it in their routes. Several of one name share the clients.
        adapter: the application's manager, where it has one: then what the endpoint sends, and what
            it broadcasts, keep their order. Else what `RoomManager` takes. A manager that is
            another, and not on the same carrier with the same prefix, cannot connect clients here.
        capacity: how many clients it takes; edges fill those first that are emptier by it.
        drain_timeout: seconds that an endpoint has, at the end, to finish what it is doing.

    Raises:
        ConfigurationError: the name, the capacity or the timeout cannot be.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        name: str,
        adapter: AdapterLike | RoomManager = "memory://",
        capacity: int = 10_000,
        drain_timeout: float = 3.0,
    ) -> None:
        check_name("A Backend", name)
        check_count("capacity", capacity, "clients")
        check_not_negative("drain_timeout", drain_timeout)
        super().__init__(adapter)
        self._app = app
        self.name = name
        """What edges call it."""
        self.capacity = capacity
        """How many clients it takes."""
        self.state: dict[str, Any] = {}
        """What the application's lifespan has yielded: every client's scope gets a copy."""
        self._drain_timeout = drain_timeout
        self._connections: dict[Key, VirtualConnection] = {}
        self._edges: dict[NodeId, float] = {}
        self._held = Counter[NodeId]()
        self._draining = False
        self._began = 0.0

    @property
    def clients(self) -> int:
        """How many clients it serves now."""
        return len(self._connections)

    @property
    def is_leaving(self) -> bool:
        """Whether it takes no clients any more."""
        return self._draining or self.manager._runtime.running.draining

    @property
    def peers(self) -> int:
        """How many workers send it messages."""
        return len(self._edges)

    def describe(self) -> dict[str, Any]:
        """What its heartbeat says."""
        return {
            "role": "backend",
            "name": self.name,
            "clients": self.clients,
            "capacity": self.capacity,
            "told": self.manager._runtime.presence.told()[:MAX_PATTERNS],
        }

    def role(self) -> dict[str, Any]:
        """What it says of itself when others ask."""
        return {"backend": {"name": self.name, "clients": self.clients, "capacity": self.capacity}}

    @property
    def health(self) -> BackendHealth:
        """How it is; never raises."""
        reason = self.why_not_ready() or ("It is draining." if self._draining else "")
        return BackendHealth(
            ready=not reason,
            reason=reason,
            clients=self.clients,
            capacity=self.capacity,
            edges=len(self._edges),
            dropped=self.dropped,
        )

    def may_be_known(self) -> bool:
        """Whether edges can know what its rooms have: else they would not for its first clients."""
        late = asyncio.get_running_loop().time() > self._began + PATIENCE
        return late or self.manager._runtime.has_declared

    def begin(self) -> None:
        """Its run begins: nothing of an earlier one counts any more."""
        self._draining = False
        self._began = asyncio.get_running_loop().time()
        self.frames.edges = self._held.keys

    def tick(self, now: float, *, late: bool) -> None:
        """Find out which edges are dead: their clients are gone."""
        for node, seen in list(self._edges.items()):
            if late:
                self._edges[node] = now
            elif seen < now - INTERVAL * MISSED:
                for key in [key for key in self._connections if key[0] == node]:
                    self.reset(*key)  # so that it knows, if it only stood still
                self._edge_gone(node)

    def _edge_gone(self, node: NodeId) -> None:
        self._edges.pop(node, None)
        for key in [key for key in self._connections if key[0] == node]:
            connection = self._connections[key]
            connection.over = True
            connection.client_gone()

    def received(self, frame: Frame) -> bool:
        """A frame of an edge."""
        if frame.kind is FrameKind.BEAT:
            self._beat(frame)
            return False
        if frame.kind is FrameKind.USERS:
            self._tell(wire.unpack_users(frame.body))
            return True
        key = frame.origin, frame.connection
        connection = self._connections.get(key)
        if frame.kind is FrameKind.OPEN:
            if connection is None:
                self._open(key, frame)
            return True
        if connection is None:
            return self.passages.received(frame)
        if frame.kind is FrameKind.RESET:
            connection.detach()
            return True
        followed = False
        try:
            followed = connection.received(frame)
        finally:
            if not followed:
                connection.detach()
                self.reset(*key)
        return True

    def unknown(self, frame: Frame) -> None:
        """An edge says what no endpoint here hears: it is to know."""
        if frame.kind in wire.MESSAGES:
            self.reset(frame.origin, frame.connection)

    def _tell(self, users: wire.Users) -> None:
        here = self.manager._runtime.living.get(users.namespace)
        if here is not None:
            here.presences.made(users.room, users.events, users.once)

    def _beat(self, frame: Frame) -> None:
        about = wire.read_json(frame.body)
        if about.get("role") != "edge":
            return
        if about.get("leaving"):
            self._edge_gone(frame.origin)
            return
        self._edges[frame.origin] = asyncio.get_running_loop().time()
        if about.get("hello") and not self._draining:
            self.beat_soon()

    def _open(self, key: Key, frame: Frame) -> None:
        node, connection_id = key
        if self.is_leaving or self.clients >= self.capacity:
            self.reset(*key)
            return
        self._edges[node] = asyncio.get_running_loop().time()
        publish = partial(self.publish, node, connection_id)
        try:
            connection = VirtualConnection(
                publish,
                wire.read_json(frame.body),
                partial(self.reset, *key),
                self.passages.to(node),
            )
        except MalformedEnvelope:
            self.reset(*key)
            raise
        connection.scope["state"] = dict(self.state)
        connection.scope[HELD] = Held(node, self.name, self.manager._runtime)
        self._connections[key] = connection
        self._held[node] += 1
        connection.task = asyncio.create_task(connection.run(self._app))
        connection.task.add_done_callback(partial(self._ended, key))

    def _ended(self, key: Key, task: asyncio.Task[None]) -> None:
        self._connections.pop(key, None)
        self._held[key[0]] -= 1
        if not self._held[key[0]]:
            del self._held[key[0]]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("An endpoint behind an edge has failed", exc_info=error)

    def gap(self) -> None:
        """Frames may have been missed: the edges open all endpoints again."""
        for key, connection in list(self._connections.items()):
            connection.detach()
            self.reset(*key)

    async def close(self) -> None:
        """Have other backends go on for all clients."""
        self._draining = True
        await self.leave()
        releases = [c.release(self._drain_timeout) for c in self._connections.values()]
        await asyncio.gather(*releases)
