"""One client of an edge, from the handshake to the close, whichever backends it has meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE, SERVICE_RESTART, TRY_AGAIN_LATER
from fastapi_rooms.core.names import new_sid
from fastapi_rooms.core.placement import Reopening
from fastapi_rooms.gateway.answers import answer_by_http, close_of
from fastapi_rooms.gateway.conversation import CLOSE_TIMEOUT, Conversation, Outcome
from fastapi_rooms.gateway.framing import ClientFraming
from fastapi_rooms.gateway.outbound import Kept
from fastapi_rooms.gateway.reader import Reader
from fastapi_rooms.gateway.sockets import EdgeSockets, Reply
from fastapi_rooms.servers import channel_of
from fastapi_rooms.types import NodeId
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind, Headers

if TYPE_CHECKING:
    from fastapi_rooms.gateway.edge import Gateway

RETRY = 1.0
"""Seconds after which a backend that did not open an endpoint is asked again, if it is alone."""

logger = logging.getLogger("fastapi_rooms")


class EdgeClient:
    """A client, the sockets it has at this edge, and its conversation with a backend."""

    def __init__(
        self, gateway: Gateway, name: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateway = gateway
        self._name = name
        self._scope = scope
        self._asgi_send = send
        self.websocket = WebSocket(scope, receive, send)
        self.websocket.client_state = WebSocketState.CONNECTED  # its handshake was received
        self.sid = new_sid(gateway.frames.node)
        limit = gateway.admission.max_message_bytes
        self.reader = Reader(self.websocket.receive, self._is_gone, self.close, limit)
        self._gone = asyncio.Event()
        self._conversation: Conversation | None = None
        self.is_accepted = False
        """Whether its handshake was accepted, for this endpoint or an earlier one."""
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False
        self._again: Sequence[Kept] = ()
        self._attempt = 0
        self._has_died = False
        self._lost = 0
        self.framing = ClientFraming(scope.get("query_string", b""))
        self.sockets = EdgeSockets(self)
        """Its sockets, by namespace."""

    @property
    def manager(self) -> Any:
        """The edge's manager."""
        return self._gateway.manager

    @property
    def backend(self) -> NodeId | None:
        """The backend that it has now."""
        return None if self._conversation is None else self._conversation.node

    def reopen(self) -> None:
        """It may have missed something: have its endpoint opened again, which so knows."""
        if self._conversation is not None:
            self._conversation.lose()

    # The whole of it.

    async def run(self) -> None:
        """Hold the client until it is gone."""
        self._task = asyncio.current_task()
        try:
            await self._serve()
        except asyncio.CancelledError:
            if not self._take_cancellation_back():
                raise
        finally:  # nothing may be left behind, though a server cancels at every await
            self.reader.stop()
            try:
                await self.sockets.close()
            finally:
                # As long as they have each other, all of them wait for the garbage collector, with
                # the server's connection and all that hangs on it.
                self._gone.set()
                del self.reader, self.sockets
                self._task = None

    async def _serve(self) -> None:
        loop = self._loop
        deadline = loop.time() + self._gateway.open_timeout
        failed: set[NodeId] = set()
        reopening = Reopening()
        while True:
            await self.sockets.settled()
            node = await self._next_backend(deadline, failed)
            if self._gone.is_set():
                return
            if node is None and self.is_accepted and self._gateway.is_cut_off:
                deadline = loop.time() + self._gateway.reattach_timeout
                continue  # it is not the backends' fault
            if node is None:
                await self._refuse()
                return
            began, had = loop.time(), self._attempt
            outcome = await self._converse(node, deadline)
            if outcome is Outcome.DONE:
                return
            wait = reopening.wait(loop.time() - began, died=self._has_died)
            if self._attempt == had:  # it has not even accepted
                failed.add(node)
                if not self._has_died:
                    continue  # another may take it
            else:
                failed.clear()
                deadline = loop.time() + wait + self._gateway.reattach_timeout
                wait += self._gateway.turns.wait(loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._gone.wait()
            if self._attempt and not self._gateway.reattach:
                await self.close(SERVICE_RESTART, "service restart")
                return

    async def _next_backend(self, deadline: float, failed: set[NodeId]) -> NodeId | None:
        """The next backend; `None` at the deadline, or when the client has gone.

        Those that have failed are asked again where there is no other for some time.
        """
        node = None
        if failed:
            node = await self._pick(min(deadline, self._loop.time() + RETRY), failed)
        if node is None and not self._gone.is_set():
            node = await self._pick(deadline, ())
        return node

    async def _pick(self, deadline: float, exclude: Collection[NodeId]) -> NodeId | None:
        picking = asyncio.ensure_future(self._gateway.pick(self._name, deadline, exclude))
        leaving = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait((picking, leaving), return_when=asyncio.FIRST_COMPLETED)
            return picking.result() if picking.done() else None
        finally:
            picking.cancel()
            leaving.cancel()

    async def _converse(self, node: NodeId, deadline: float) -> Outcome:
        """Have a backend run the endpoint, and return how that has ended.

        It has to accept by the deadline.
        """
        conversation = Conversation(self._gateway, self, node, self._again)
        self._conversation = conversation
        self.sockets.begin_attempt()
        outcome = Outcome.LOST
        try:
            outcome = await conversation.run(self._opening(), deadline)
        finally:
            self._conversation = None
            self._again = conversation.again
            self._attempt += conversation.is_accepted
            self._has_died = conversation.has_died
            if outcome is Outcome.LOST:
                self._lost += conversation.lost
                self._gateway.tally.lost += conversation.lost
        return outcome

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

    def _take_cancellation_back(self) -> bool:
        """Whether it was cancelled by us, as it reads nothing and cannot be aborted."""
        ours = self.sockets.take_cancellation_back()
        if self._given_up and self._task is not None:
            ours = self._task.uncancel() <= 0
        return ours

    async def _refuse(self) -> None:
        if self.is_accepted:
            await self.close(TRY_AGAIN_LATER, "try again later")
        else:
            await answer_by_http(self._scope, self._asgi_send, 503)

    def _is_gone(self, code: int, reason: str) -> None:
        if self._gone.is_set():
            return
        self._gone.set()
        self.websocket.client_state = WebSocketState.DISCONNECTED
        self.sockets.lost()
        if self._conversation is not None:
            self._conversation.client_gone(code, reason)

    def post(self, kind: FrameKind, body: bytes) -> None:
        """Send its backend a frame that nobody waits for."""
        if self._conversation is not None:
            self._conversation.post(kind, body)

    # What its backend has it do.

    async def accept(self, about: dict[str, Any]) -> None:
        """Accept its handshake, if that was not done for an earlier endpoint."""
        if not self.is_accepted:
            subprotocol = wire.field(about, "subprotocol", str, type(None))
            headers = wire.unpack_headers(about.get("headers"))
            self.is_accepted = True
            try:
                await self.websocket.accept(subprotocol, headers)
            except (OSError, RuntimeError) as error:
                logger.debug("A client of this edge has gone before it was accepted: %r", error)
                self.reader.left(ABNORMAL_CLOSURE, "")
        elif (channel := channel_of(self._scope)) is not None:
            await channel.reopened()
        self.framing.accepted(by_rooms=about.get("rooms") is True)

    def attached(self, conversation: Conversation) -> None:
        """What it says from now on is for this endpoint."""
        self._gateway.tally.reattached += self._attempt > 0
        self.reader.attach(conversation)
        if not self.framing.is_due:  # else its answer to the hello comes first
            self.reader.start()

    def read_on(self) -> None:
        """Read from it, in the framing if that is spoken."""
        self.framing.accepted(by_rooms=False)  # what was not begun by now is not spoken
        if self.framing.transport is not None:
            self.reader.receive = self.framing.transport.receive
        if self.websocket.client_state is WebSocketState.DISCONNECTED:
            self.reader.left(ABNORMAL_CLOSURE, "")
        self.reader.start()

    def about_to_speak(self) -> None:
        """It is about to say something to the endpoint."""
        self.sockets.tell_positions()

    async def deny(self, status: int, headers: Headers, body: bytes) -> None:
        """Refuse its handshake; close it, if that was accepted for an earlier endpoint."""
        if self.is_accepted:
            await self.close(*close_of(status))
        else:
            await answer_by_http(self._scope, self._asgi_send, status, headers, body)

    async def close(self, code: int, reason: str) -> None:
        """Close it, behind what was sent before."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.sockets.flush()
                if self.websocket.application_state is WebSocketState.CONNECTED:
                    await self.websocket.close(code, reason)
        except TimeoutError:
            self.abort()
        except Exception as error:  # noqa: BLE001 -- every server raises its own
            logger.debug("A client of this edge was gone before it was closed: %r", error)

    def abort(self) -> None:
        """Abort its connection: it does not take what was sent to it."""
        task = self._task
        if not self.sockets.abort() and task is not None and task is not asyncio.current_task():
            self._given_up = True
            task.cancel()

    def write_at_once(self, frame: Frame) -> bool:
        """Write a message now, before any broadcast that comes later; false if it has to wait."""
        return self.sockets.write_at_once(frame)

    async def write(self, frame: Frame) -> bool:
        """Write a message, and return when the server has it; false if the client is gone."""
        try:
            if not await self.sockets.write(frame):
                text = frame.kind is FrameKind.TEXT
                value: Any = frame.body.decode() if text else frame.body
                await self.websocket.send(
                    {"type": "websocket.send", "text" if text else "bytes": value}
                )
        except (WebSocketDisconnect, OSError, RuntimeError) as error:
            logger.debug("A client of this edge is gone: %r", error)
            return False
        return not self._gone.is_set()

    def leave(self) -> None:
        """Take it for gone, whatever of it was not read yet."""
        self.reader.stop()
        self.reader.left(ABNORMAL_CLOSURE, "")

    def call_at_once(self, call: dict[str, Any]) -> bool:
        """Do something with its sockets now; false if it has to wait."""
        return self.sockets.call_at_once(call)

    async def call(self, call: dict[str, Any], reply: Reply) -> None:
        """Do something with its sockets, and reply, at once or later, if that is wanted."""
        await self.sockets.call(call, reply)
