"""An edge: holds clients, and has backends run their endpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from fastapi_rooms.adapters import AdapterLike
from fastapi_rooms.core.checks import check_count, check_path, check_positive
from fastapi_rooms.core.placement import Placement, Turns
from fastapi_rooms.core.routes import Routes, has_dots
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.gateway.admission import Admission
from fastapi_rooms.gateway.answers import answer_by_http
from fastapi_rooms.gateway.client import EdgeClient
from fastapi_rooms.gateway.conversation import Conversation
from fastapi_rooms.gateway.health import GatewayHealth, Tally, answer_health
from fastapi_rooms.gateway.learning import Learning
from fastapi_rooms.gateway.local import deliver
from fastapi_rooms.gateway.member import INTERVAL, Member
from fastapi_rooms.gateway.presence import EdgePresence
from fastapi_rooms.manager import RoomManager
from fastapi_rooms.security.origins import AllowedOrigins
from fastapi_rooms.servers import MuxConnection, channel_of, open_transport, until_refused
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire import mux
from fastapi_rooms.wire.gateway import NO_CONNECTION, Frame, FrameKind
from fastapi_rooms.worker.blocks import Lifespan
from fastapi_rooms.worker.frames import Frames
from fastapi_rooms.worker.learning import Learner


class Gateway(Member):
    """An ASGI application that holds WebSocket clients, whose endpoints run in backends.

        gateway = Gateway("redis://localhost:6379", routes={"/chat": "chat"})

    Served by itself, its lifespan starts it. Mounted in another application, have that one's
    lifespan do it: `FastAPI(lifespan=gateway.lifespan)`.

    Args:
        adapter: what `RoomManager` takes, or a manager. Which rooms have a history or presence it
            learns from the backends' managers.
        routes: the names of backends by path. Whole segments match, the longest path wins.
        open_timeout: seconds that a client waits at first for a backend whose endpoint accepts it;
            then it gets status 503.
        reattach: whether a client that has lost its backend gets another, on the same connection.
            If not, it is closed with 1012.
        reattach_timeout: seconds that it waits for one, and its endpoint to accept; then it is
            closed with 1013. While the carrier is away they do not count.
        origins: the pages that may open a connection; by default those of every site. Others get
            status 403 before any backend hears of them.
        headers: the names of the request headers that backends get, such as `cookie`; by default
            all travel through the carrier. `host`, `origin` and those of the WebSocket handshake
            always do, and so do the client's address, the path and the query.
        max_clients: how many clients this edge holds; more get status 503. By default any number.
            A connection with several endpoints is one, and each of these is one more.
        max_message_bytes: the longest message of a client, 64 MiB at most; one who sends more is
            closed with 1009.
        health_path: where HTTP clients get `health`, with status 200 if it is ready, else 503; by
            default nowhere.
        max_channels: how many endpoints a client may have over one connection, by the subprotocol
            `rooms.mux.v1`.

    Raises:
        ConfigurationError: these routes or settings cannot be.
    """

    def __init__(
        self,
        adapter: AdapterLike | RoomManager = "memory://",
        *,
        routes: Mapping[str, str],
        open_timeout: float = 10.0,
        reattach: bool = True,
        reattach_timeout: float = 30.0,
        origins: AllowedOrigins | None = None,
        headers: Collection[str] | None = None,
        max_clients: int | None = None,
        max_message_bytes: int = 16 * 1024 * 1024,
        health_path: str | None = None,
        max_channels: int = 100,
    ) -> None:
        super().__init__(adapter)
        self.admission = Admission(
            origins=origins,
            headers=headers,
            max_clients=max_clients,
            max_message_bytes=max_message_bytes,
        )
        """Whom it lets in."""
        if health_path is not None:
            check_path("health_path", health_path)
        self._health_path = health_path
        self.tally = Tally()
        """What it counts."""
        check_positive("open_timeout", open_timeout)
        check_positive("reattach_timeout", reattach_timeout)
        check_count("max_channels", max_channels, "channels")
        self._routes = Routes(routes)
        self.open_timeout = open_timeout
        self.reattach = reattach
        self.reattach_timeout = reattach_timeout
        self._max_channels = max_channels
        self._placement = Placement(INTERVAL)
        self.turns = Turns()
        """When clients that have all lost their backend get another."""
        runtime = self.manager._runtime
        self._learner = Learner(runtime, lambda name: self.manager.of(name)._here)
        self._learning: Learning
        self._presence: EdgePresence
        self._conversations: dict[bytes, Conversation] = {}
        self._changed: asyncio.Event

    @property
    def backends(self) -> dict[NodeId, str]:
        """The backends that are known to live: their names by node id."""
        return {node: state.name for node, state in self._placement.backends.items()}

    @property
    def clients(self) -> int:
        """How many clients it holds, those included who wait for a backend."""
        return self.admission.clients

    def lifespan(self, app: Any = None) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 -- Starlette passes it
        """The lifespan of an application that it is mounted in."""
        return Lifespan(self)

    def begin(self) -> None:
        """Its run begins: nothing of an earlier one counts any more."""
        self._placement = Placement(INTERVAL)
        self._changed = asyncio.Event()
        self._learning = Learning(self._learner, self._place)
        runtime = self.manager._runtime
        runtime.presence.edge = self._presence = EdgePresence(
            runtime, partial(_publish_users, self.frames)
        )
        self._learning.tick(asyncio.get_running_loop().time())

    async def ended(self) -> None:
        """Its run is over, and that of the manager, if nobody else needs it."""
        runtime = self.manager._runtime
        runtime.presence.edge = None
        await self._presence.close(INTERVAL)
        if not runtime.is_running:
            self._learner.forget()

    @property
    def peers(self) -> int:
        """How many workers send it messages."""
        return len(self._placement.backends)

    def describe(self) -> dict[str, Any]:
        """What its heartbeat says."""
        return {"role": "edge", "clients": self.clients}

    def role(self) -> dict[str, Any]:
        """What it says of itself when others ask."""
        return {"edge": {"clients": self.clients, "routes": self._routes.names}}

    @property
    def health(self) -> GatewayHealth:
        """How it is; never raises."""
        live = list(self.backends.values())
        backends = {name: live.count(name) for name in self._routes.names.values()}
        reason = self.why_not_ready()
        if not (reason or any(backends.values())):
            reason = "None of its routes has a backend."
        return GatewayHealth(
            ready=not reason,
            reason=reason,
            clients=self.clients,
            attached=len(self._conversations),
            backends=backends,
            reattached=self.tally.reattached,
            lost=self.tally.lost,
            dropped=self.dropped,
        )

    # As an ASGI application.

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the lifespan, or a client; everything else is not found."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._serve(scope, receive, send)
            await until_refused(receive)
        elif self._health_path is not None and _path_of(scope) == self._health_path:
            await answer_health(scope, send, self.health)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.__aenter__()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        finally:
            await self.__aexit__()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        _ = self.frames  # raises if it was not started
        path = _path_of(scope)
        name = self._routes.find(path)
        first: Message = await receive()
        if first["type"] != "websocket.connect":
            return
        status = await self.admission.refusal(scope)
        if status is None and self.manager._runtime.running.draining:
            status = 503
        has_channels = path in ("", "/") and mux.SUBPROTOCOL in scope["subprotocols"]
        if has_dots(path):
            status = 400
        if status is None and has_channels and not channel_of(scope):
            await self._serve_channels(scope, receive, send)
        elif status is None and name is not None:
            told = {**scope, "headers": self.admission.told(scope["headers"])}
            with self.admission.place():
                await EdgeClient(self, name, told, receive, send).run()
        else:
            await answer_by_http(scope, send, status or 404)

    async def _serve_channels(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime = self.manager._runtime
        settings = runtime.settings
        opening = partial(
            open_transport,
            on_shutdown=runtime.run.begin_drain,
            direct_writes=settings.direct_writes,
            compression=settings.compression,
        )
        limit = self._max_channels
        connection = MuxConnection(
            self._serve, scope, receive, send, max_channels=limit, open_transport=opening
        )
        with self.admission.connection():
            await connection.run()

    # What clients call.

    @property
    def is_cut_off(self) -> bool:
        """Whether the carrier is away, or was for some of the time that a client waits."""
        health = self.manager.health
        return not health.connected or time.time() - health.since < self.reattach_timeout

    async def pick(self, name: str, deadline: float, exclude: Collection[NodeId]) -> NodeId | None:
        """A backend of a name, as soon as there is one; or `None` at the deadline."""
        loop = asyncio.get_running_loop()
        while loop.time() < deadline:
            node = self._placement.pick(name, exclude)
            if node is not None:
                return node
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                break
        return None

    def register(self, connection: bytes, conversation: Conversation) -> None:
        """Frames of this connection are for that conversation."""
        self._conversations[connection] = conversation

    def unregister(self, connection: bytes) -> None:
        """What comes of this connection from now on is nobody's."""
        self._conversations.pop(connection, None)

    # What comes.

    def received(self, frame: Frame) -> bool:
        """A frame of a backend."""
        if frame.kind is FrameKind.BEAT:
            self._beat(frame)
            return False
        if frame.kind is FrameKind.LOCAL:
            deliver(frame, self.manager._runtime)
            return True
        conversation = self._conversations.get(frame.connection)
        if conversation is None or conversation.node != frame.origin:
            return self.passages.received(frame)
        try:
            conversation.received(frame)
        except MalformedEnvelope:
            conversation.lose()
            raise
        return True

    def _beat(self, frame: Frame) -> None:
        about = wire.read_json(frame.body)
        if about.get("role") != "backend":
            return
        if about.get("leaving"):
            self._placement.leaves(frame.origin, asyncio.get_running_loop().time())
            self._learning.gone(frame.origin)
            self._presence.gone(frame.origin)
        elif frame.origin in self._placement:
            self._place(frame.origin, about)
        else:
            self._learning.heard(frame.origin, about)

    def _place(self, node: NodeId, about: dict[str, Any]) -> None:
        """A backend lives, and what its rooms have is known: it may get clients."""
        name = wire.field(about, "name", str)
        clients, capacity = wire.field(about, "clients", int), wire.field(about, "capacity", int)
        if clients < 0 or capacity < 1:
            raise MalformedEnvelope("a backend has no such number of clients")
        now = asyncio.get_running_loop().time()
        if self._placement.beat(node, name, clients, capacity, now):
            self.beat_soon()  # so that it knows of us
        self._presence.heard(node, about)
        self._changed.set()

    def tick(self, now: float, *, late: bool) -> None:
        """Find out which backends are dead."""
        if late:
            self._placement.spare(now)
        dead = set(self._placement.expire(now))
        for node in dead:
            self._presence.gone(node)
        self._presence.tick(now)
        self._learning.tick(now)
        self._lose(dead)

    def is_gone(self, node: NodeId) -> None:
        """Nobody hears what is sent to a backend any more: its clients need another."""
        self._placement.bye(node)
        self._learning.gone(node)
        self._presence.gone(node)
        self._lose({node})

    def _lose(self, nodes: Collection[NodeId]) -> None:
        for conversation in list(self._conversations.values()):
            if conversation.node in nodes:
                conversation.died()

    def gap(self) -> None:
        """Frames may have been missed: open every endpoint again."""
        self._learning.again()
        for conversation in list(self._conversations.values()):
            conversation.lose()

    async def close(self) -> None:
        """The clients that are there are closed by the server, or by the manager that drains."""
        with suppress(Exception):
            await self.manager.drain()
        await self.leave()
        await self.beat_no_more()
        await self._learning.close(INTERVAL)


def _publish_users(frames: Frames, node: NodeId, body: bytes) -> Awaitable[object]:
    """Send a backend a frame about users, even when the manager of the run has forgotten it."""
    return frames.publish(node, Frame(FrameKind.USERS, frames.node, NO_CONNECTION, 0, body))


def _path_of(scope: Scope) -> str:
    """The path below where the edge is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :] or "/"
    return path
