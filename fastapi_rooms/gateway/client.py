"""One client of an edge, from the handshake to the close, whichever backends it has meanwhile."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import (
    NO_STATUS,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
)
from fastapi_rooms.core.link import Link
from fastapi_rooms.core.names import new_sid
from fastapi_rooms.errors import AdapterUnavailable, MalformedEnvelope, UsageError
from fastapi_rooms.gateway.sockets import EdgeSockets
from fastapi_rooms.servers.gateway.connection import post
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind, Headers

if TYPE_CHECKING:
    from fastapi_rooms.gateway.edge import Gateway

logger = logging.getLogger("fastapi_rooms")

POLICY_VIOLATION = 1008
"""RFC 6455, section 7.4.1."""

MAX_QUEUED = 10_000
"""Frames that may wait for a client. Messages have less: their window is the limit."""

_REASONS = {400: b"Bad Request", 404: b"Not Found", 503: b"Service Unavailable"}

Kept = tuple[FrameKind, bytes]


async def answer_by_http(
    scope: Scope, send: Send, status: int, headers: Headers | None = None, body: bytes | None = None
) -> None:
    """Refuse a handshake with a status, or with 403 where the server can send no other."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": ""})
        return
    if body is None:
        body = _REASONS.get(status, b"")
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        headers += [(b"retry-after", b"1")] if status == 503 else []
    start = {"type": "websocket.http.response.start", "status": status, "headers": headers or []}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


class Outcome(Enum):
    """How a connection with a backend has ended."""

    DONE = "the client is closed, or gone"
    LOST = "the backend is gone, or something was missed"
    RELEASED = "the backend leaves, and has said what was taken"


class EdgeClient:
    """A client, the sockets it has at this edge, and its connection with a backend."""

    def __init__(
        self, gateway: Gateway, name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._gateway = gateway
        self._name = name
        self._scope = scope
        self._asgi_send = send
        self.websocket = WebSocket(scope, receive, send)
        self.websocket.client_state = WebSocketState.CONNECTED  # its handshake was received
        self.sid = new_sid(gateway.frames.node)
        self.node: NodeId | None = None
        """The backend that it has now."""
        self._connection = b""
        self._link: Link[Kept] = Link()
        self._frames: deque[Frame] = deque()
        self._changed = asyncio.Event()
        self._attached = asyncio.Event()
        self._credit = asyncio.Event()
        self._is_lost = False
        self._accepted = False
        self._gone: tuple[int, str] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._held: Kept | None = None
        self._again: list[Kept] = []
        self._attempt = 0
        self._lost = 0
        self.sockets = EdgeSockets(self)
        """Its sockets, by namespace."""

    @property
    def manager(self) -> Any:
        """The edge's manager."""
        return self._gateway.manager

    # The whole of it.

    async def run(self) -> None:
        """Hold the client until it is gone."""
        try:
            await self._serve()
        finally:  # nothing may be left behind, though a server cancels at every await
            if self._reader is not None:
                self._reader.cancel()
            await self.sockets.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._gateway.open_timeout
        failed: set[NodeId] = set()
        hurried = 0
        while True:
            node = await self._next_backend(deadline, failed)
            if self._gone is not None:
                return
            if node is None:
                await self._refuse()
                return
            began, had = loop.time(), self._attempt
            outcome = await self._attach(node)
            if outcome is Outcome.DONE:
                return
            if self._attempt == had:  # it has not even accepted
                failed.add(node)
                continue
            if not self._gateway.reattach:
                await self._close(SERVICE_RESTART, "service restart")
                return
            failed.clear()
            deadline = loop.time() + self._gateway.reattach_timeout
            # An endpoint that ends as soon as it has begun is not begun again at full speed.
            hurried = hurried + 1 if loop.time() - began < 1 else 0
            wait = self._gateway.turns.wait(loop.time()) + min(0.05 * hurried**2, 2.0)
            if wait:
                await asyncio.sleep(wait)

    async def _next_backend(self, deadline: float, failed: set[NodeId]) -> NodeId | None:
        """The next backend; `None` at the deadline, or when the client has gone."""
        picking = asyncio.ensure_future(self._gateway.pick(self._name, deadline, failed))
        try:
            while not picking.done() and self._gone is None:
                self._changed.clear()
                waiting = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait((picking, waiting), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
            return picking.result() if picking.done() else None
        finally:
            picking.cancel()

    async def _refuse(self) -> None:
        if self._accepted:
            await self._close(TRY_AGAIN_LATER, "try again later")
        else:
            await answer_by_http(self._scope, self._asgi_send, 503)

    async def _close(self, code: int, reason: str) -> None:
        await self.sockets.flush()
        if self.websocket.application_state is WebSocketState.CONNECTED:
            with suppress(Exception):
                await self.websocket.close(code, reason)

    # With one backend.

    async def _attach(self, node: NodeId) -> Outcome:
        """Have a backend run the endpoint, and return how that has ended."""
        self.node, self._connection = node, secrets.token_bytes(8)
        self._link, self._is_lost = Link(), False
        self._frames.clear()
        self._gateway.register(self._connection, self)
        self.sockets.begin_attempt()
        outcome = Outcome.LOST
        try:
            outcome = await self._converse()
        except AdapterUnavailable as error:
            logger.debug("A backend could not be reached: %s", error)
        except (MalformedEnvelope, UsageError) as error:
            self._gateway.frames.malformed += 1
            logger.debug("A backend sent what cannot be: %s", error)
        finally:
            self._attached.clear()
            self._gateway.unregister(self._connection)
            if outcome is Outcome.LOST:
                self._gateway.reset(node, self._connection)
                self._lost += self._link.unacknowledged
            self.node = None
        return outcome

    async def _converse(self) -> Outcome:
        await self._frame(FrameKind.OPEN, wire.to_json(self._opening()))
        deadline = asyncio.get_running_loop().time() + self._gateway.open_timeout
        while True:
            while self._frames and not self._is_lost:
                outcome = await self._handle(self._frames.popleft())
                if outcome is not None:
                    return outcome
            if self._gone is not None:
                await self._frame(FrameKind.CLOSE, wire.pack_close(*self._gone))
                return Outcome.DONE
            if self._is_lost:
                return Outcome.LOST
            self._changed.clear()
            try:
                async with asyncio.timeout_at(None if self._attached.is_set() else deadline):
                    await self._changed.wait()
            except TimeoutError:
                return Outcome.LOST

    def _opening(self) -> dict[str, Any]:
        scope = self._scope
        raw_path = scope.get("raw_path") or scope["path"].encode()
        return {
            "path": scope["path"],
            "raw_path": raw_path.decode("latin-1"),
            "query_string": scope.get("query_string", b"").decode("latin-1"),
            "root_path": scope.get("root_path", ""),
            "http_version": scope.get("http_version", "1.1"),
            "scheme": scope.get("scheme", "ws"),
            "headers": wire.pack_headers(scope["headers"]),
            "client": scope.get("client"),
            "server": scope.get("server"),
            "subprotocols": list(scope.get("subprotocols", [])),
            "sid": self.sid,
            "attempt": self._attempt,
            "lost": self._lost,
            "sockets": self.sockets.kept(),
        }

    async def _frame(self, kind: FrameKind, body: bytes) -> None:
        assert self.node is not None
        number = self._link.number()
        await self._gateway.publish(self.node, self._connection, kind, number, body)

    def post(self, kind: FrameKind, body: bytes) -> None:
        """Send the backend a frame that nobody waits for."""
        if self.node is not None and not self._is_lost:
            number = self._link.number()
            post(self._gateway.publish(self.node, self._connection, kind, number, body))

    def lose(self) -> None:
        """The backend is gone, or something was missed."""
        self._is_lost = True
        self._changed.set()

    def received(self, frame: Frame) -> None:
        """Take a frame of the backend."""
        if self._is_lost:
            return
        kind = frame.kind
        follows = kind is not FrameKind.RESET and self._link.follows(frame.sequence)
        if not follows or len(self._frames) >= MAX_QUEUED:
            self.lose()
            return
        if kind in (FrameKind.TEXT, FrameKind.BYTES):
            if not self._link.came(len(frame.body)):
                self.lose()
                return
            if not self._frames and self.sockets.write_at_once(frame):
                self._took(len(frame.body))
                return
        elif kind is FrameKind.CREDIT:
            if not self._link.credited(*wire.unpack_credit(frame.body)):
                self.lose()
            self._credit.set()
            return
        self._frames.append(frame)
        self._changed.set()

    def _took(self, size: int) -> None:
        credit = self._link.took(size)
        if credit is not None:
            self.post(FrameKind.CREDIT, wire.pack_credit(*credit))

    async def _handle(self, frame: Frame) -> Outcome | None:
        kind, body = frame.kind, frame.body
        if kind is FrameKind.ACCEPT:
            await self._accept(wire.read_json(body))
        elif kind is FrameKind.DENY:
            return await self._deny(*wire.unpack_deny(body))
        elif kind in (FrameKind.TEXT, FrameKind.BYTES):
            await self._write(frame)
            self._took(len(body))
        elif kind is FrameKind.CLOSE:
            await self._close(*wire.unpack_close(body))
            return Outcome.DONE
        elif kind is FrameKind.CALL:
            reply = await self.sockets.call(wire.read_json(body))
            if reply is not None:
                self.post(FrameKind.REPLY, wire.to_json(reply))
        elif kind is FrameKind.RELEASE:
            again = self._link.not_taken(wire.unpack_release(body))
            if again is None:
                return Outcome.LOST
            self._again = again
            return Outcome.RELEASED
        else:
            return Outcome.LOST
        return None

    async def _accept(self, about: dict[str, Any]) -> None:
        if not self._accepted:
            self._accepted = True
            subprotocol = wire.field(about, "subprotocol", str, type(None))
            headers = wire.unpack_headers(about.get("headers"))
            await self.websocket.accept(subprotocol, headers)
        self._attempt += 1
        again, self._again = self._again, []
        for kind, message in again:
            self._link.sent((kind, message), len(message))
            await self._frame(kind, message)
        self._attached.set()
        self._credit.set()
        self.start_reader()

    async def _deny(self, status: int, headers: Headers, body: bytes) -> Outcome:
        if self._accepted:
            await self._close(POLICY_VIOLATION, "refused")
        else:
            await answer_by_http(self._scope, self._asgi_send, status, headers, body)
        return Outcome.DONE

    async def _write(self, frame: Frame) -> None:
        try:
            if not await self.sockets.write(frame):
                text = frame.kind is FrameKind.TEXT
                value: Any = frame.body.decode() if text else frame.body
                await self.websocket.send(
                    {"type": "websocket.send", "text" if text else "bytes": value}
                )
        except (WebSocketDisconnect, OSError, RuntimeError) as error:
            logger.debug("A client of this edge is gone: %r", error)

    # From the client.

    def start_reader(self) -> None:
        """Read from the client."""
        if self._reader is None and self._gone is None:
            self._reader = asyncio.create_task(self._read())

    async def pause_reader(self) -> None:
        """Do not read for now: what has been read is kept."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait((reader,))

    async def _read(self) -> None:
        try:
            while True:
                if self._held is None:
                    message: Message = await self.websocket.receive()
                    if message["type"] == "websocket.disconnect":
                        self._left(message.get("code") or NO_STATUS, message.get("reason") or "")
                        return
                    text = message.get("text")
                    self._held = (
                        (FrameKind.BYTES, message["bytes"])
                        if text is None
                        else (FrameKind.TEXT, text.encode("utf-8", "surrogatepass"))
                    )
                await self._forward()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 -- every server raises its own
            logger.debug("A client of this edge cannot be read from: %r", error)
            self._left(1006, "")

    async def _forward(self) -> None:
        while not (self._attached.is_set() and self._link.may_send) or self._is_lost:
            if not self._attached.is_set():
                await self._attached.wait()
                continue
            self._credit.clear()
            await self._credit.wait()
        assert self._held is not None
        held, self._held = self._held, None
        kind, body = held
        self._link.sent(held, len(body))
        try:
            await self._frame(kind, body)
        except AdapterUnavailable:
            self.lose()

    def _left(self, code: int, reason: str) -> None:
        self._gone = code, reason
        self._changed.set()
