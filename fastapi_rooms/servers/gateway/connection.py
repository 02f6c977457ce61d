"""One client, held by an edge, as the endpoint's server sees it: an ASGI `receive` and `send`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message

from fastapi_rooms.core.close_codes import (
    ABNORMAL_CLOSURE,
    NORMAL_CLOSURE,
    SERVICE_RESTART,
    check_close_code,
    shorten_reason,
)
from fastapi_rooms.core.link import Link
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.servers.gateway.calls import Calls, Then
from fastapi_rooms.servers.gateway.incoming import Incoming
from fastapi_rooms.servers.gateway.opening import scope_of
from fastapi_rooms.servers.gateway.outgoing import Outgoing
from fastapi_rooms.servers.gateway.passage import Passage
from fastapi_rooms.servers.gateway.posting import post, until_published
from fastapi_rooms.servers.gateway.telling import Telling
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

logger = logging.getLogger("fastapi_rooms")

SCOPE_KEY = "fastapi_rooms.edge"
"""Where an ASGI scope has the virtual connection, and an extension that says so."""

CREDIT_DELAY = 0.1
"""Seconds until an edge hears which messages were taken: so many may be in doubt at a crash."""

Publish = Callable[[FrameKind, int, bytes], Awaitable[object]]
"""Publishes a frame of a connection to its edge: kind, sequence number, body."""


def edge_of(scope: MutableMapping[str, Any]) -> VirtualConnection | None:
    """The virtual connection of an ASGI scope, if an edge holds its client."""
    found = scope.get(SCOPE_KEY)
    return found if isinstance(found, VirtualConnection) else None


class VirtualConnection:
    """Runs the application for one client of an edge, once.

    Args:
        publish: says something to the edge.
        opened: what the edge has said of the client.
        reset: tells the edge, for as long as that takes, that this is over, and nothing more.
        passage: the way to the edge, for all connections with it.

    Raises:
        MalformedEnvelope: it makes no sense.
    """

    def __init__(
        self,
        publish: Publish,
        opened: dict[str, Any],
        reset: Callable[[], None] = lambda: None,
        passage: Passage | None = None,
    ) -> None:
        self._publish = publish
        self._reset = reset
        self._link: Link[None] = Link()
        self._link.follows(1)  # that opened it
        self._incoming = Incoming()
        self._changed = asyncio.Event()
        passage = passage or Passage(partial(_unnumbered, publish))
        self._outgoing = Outgoing(self._link, passage, self._changed)
        self._state = "connecting"
        self._told_connect = False
        self._response: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._response_body: list[bytes] = []
        self._closed: tuple[int, str] | None = None
        self._receiving = 0
        self._giving: asyncio.TimerHandle | None = None
        self._released = False
        self._stopped = asyncio.Event()
        self.accepted_by_rooms = False
        """Whether it is `rooms.connect` that accepts: only then the edge may say hello."""
        self.over = False
        """Whether nothing is sent to the edge any more."""
        self._is_settled = False  # the edge knows that this is over
        self.on_event: list[Callable[[dict[str, Any]], None]] = []
        """Called with what the edge tells of the sockets of this client."""
        self._telling = Telling()
        self.on_receive = self._telling.callbacks
        """Called when the endpoint is about to read, soon after it has sent, and as it is released:
        what it has changed is to be told."""
        self.on_lost: list[Callable[[], None]] = []
        """Called when the client is gone."""
        self.sid: str = wire.field(opened, "sid", str)
        """What the edge has drawn for it."""
        self.attempt: int = wire.field(opened, "attempt", int)
        """How many endpoints the client has had before on this connection."""
        self.lost: int = wire.field(opened, "lost", int)
        """How many of its messages no endpoint took, at most."""
        self.kept: dict[str, Any] = wire.field(opened, "sockets", dict)
        """What the edge knows of its sockets from before: data by namespace."""
        self._calls = Calls(self.kept)
        about = {"sid": self.sid, "attempt": self.attempt, "lost": self.lost}
        self.scope = scope_of(opened)
        self.scope[SCOPE_KEY] = self
        self.scope["extensions"][SCOPE_KEY] = about
        self.task: asyncio.Task[None] | None = None

    # The application's side.

    async def run(self, app: ASGIApp) -> None:
        """Call the application; what it leaves open is closed as a server would."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            if not (self._released or self.over):
                await self._end(1012, "service restart")
            raise
        except GeneratorExit:
            raise  # the event loop has ended: nothing can be awaited
        except BaseException:  # by a SystemExit out of a task, asyncio would end the process
            if not (self.over or self._state == "closed"):
                logger.exception("Exception in an endpoint behind an edge")
            await self._end(1011, "")
        else:
            await self._end(1000, "")
        finally:
            self._stop()

    async def _end(self, code: int, reason: str) -> None:
        try:
            if self._state == "connecting":
                await self._deny(500, [(b"content-type", b"text/plain")], b"Internal Server Error")
            elif self._state == "accepted" and self._closed is None:
                await self._close(code, reason)
        except (OSError, AdapterUnavailable) as error:
            logger.debug("A client could not be closed: %r", error)

    def _stop(self) -> None:
        if not (self._is_settled or self._released):
            self._reset()
        self.over, self._state = True, "closed"
        self._closed = self._closed or (SERVICE_RESTART, "")
        self._stopped.set()
        self._changed.set()  # there may be tasks that the endpoint has left behind
        self._calls.fail()
        if self._giving is not None:
            self._giving.cancel()
        self._telling.stop()
        self.on_event.clear()
        self.on_lost.clear()
        self.scope = {}  # it has this: only the garbage collector would free the two

    async def receive(self) -> Message:
        """The client's next message, as ASGI has it."""
        if not self._told_connect:
            self._told_connect = True
            return {"type": "websocket.connect"}
        self._telling.now()
        self._receiving += 1
        try:
            message: Message | None = None
            while message is None:
                while not self._incoming or self._released:
                    if self._released:
                        self._changed.set()
                        await self._stopped.wait()  # unless this task is cancelled by `release`
                    if self._closed is not None:
                        code, reason = self._closed
                        return {"type": "websocket.disconnect", "code": code, "reason": reason}
                    self._give_soon()
                    self._changed.clear()
                    await self._changed.wait()
                message, credit = self._incoming.take(self._link)
                self._give(credit)
        finally:
            self._receiving -= 1
        return message

    def _give_soon(self) -> None:
        """Who waits has taken all that came: tell, so that little is in doubt if this dies.

        Not at once, as each message would cost a frame more.
        """
        if self._giving is None and self._link.owes_credit:
            loop = asyncio.get_running_loop()
            self._giving = loop.call_later(CREDIT_DELAY, self._give_all)

    def _give_all(self) -> None:
        self._giving = None
        self._give(self._link.credit())

    def _give(self, credit: tuple[int, int] | None) -> None:
        if credit is not None:
            self._post(FrameKind.CREDIT, wire.pack_credit(*credit))

    async def send(self, message: Message) -> None:
        """Send what the application has for the client. Raises `OSError` when that is gone."""
        kind = message["type"]
        if kind == "websocket.http.response.start" and self._state == "connecting":
            headers = list(message.get("headers", []))
            self._response = message["status"], headers
        elif kind == "websocket.http.response.body" and self._response is not None:
            self._response_body.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._deny(*self._response, b"".join(self._response_body))
        elif kind == "websocket.accept" and self._state == "connecting":
            await self._accept(message.get("subprotocol"), message.get("headers") or [])
        elif kind == "websocket.close" and self._state == "connecting":
            await self._refuse(message.get("code", 1000), message.get("reason") or "")
        elif kind == "websocket.close" and self._state == "accepted":
            self._check_open()
            code, reason = message.get("code", 1000), message.get("reason") or ""
            await self._close(code, reason)
        elif kind == "websocket.send" and self._state == "accepted":
            await self._send(message)
        elif self._state == "closed":
            raise OSError("The client is disconnected")
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r} ({self._state})")

    def _check_open(self) -> None:
        if self.over or self._closed is not None:
            raise OSError("The client is disconnected")

    async def _accept(
        self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        self._check_open()
        about = {
            "subprotocol": subprotocol,
            "headers": wire.pack_headers(headers),
            "rooms": self.accepted_by_rooms,
        }
        body = wire.to_json(about)
        self._state = "accepted"
        await self._frame(FrameKind.ACCEPT, body)

    async def _deny(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._check_open()
        packed = wire.pack_deny(status, headers, body)
        self._state = "closed"
        await self._end_by(FrameKind.DENY, packed)

    async def _refuse(self, code: int, reason: str) -> None:
        """Before it is accepted: a client that was, for an earlier endpoint, is told the code."""
        if self.attempt and code != NORMAL_CLOSURE:
            self._check_open()
            await self._close(code, reason)
        else:
            await self._deny(403, [], b"")

    async def _close(self, code: int, reason: str) -> None:
        body = wire.pack_close(check_close_code(code), shorten_reason(reason))
        self._state = "closed"
        self._closed = code, reason
        self._changed.set()
        await self._end_by(FrameKind.CLOSE, body)

    async def _send(self, message: Message) -> None:
        text = message.get("text")
        kind = FrameKind.BYTES if text is None else FrameKind.TEXT
        body = message["bytes"] if text is None else text.encode()
        self._telling.soon()
        await self._outgoing.send(kind, bytes(body), self._frame, self._post, self._check_open)

    async def _frame(self, kind: FrameKind, body: bytes) -> None:
        """Publish a frame. One that is not taken by the carrier is a hole: the edge finds it."""
        if not self.over:
            await until_published(self._publish(kind, self._link.number(), body), self._fail)

    async def _end_by(self, kind: FrameKind, body: bytes) -> None:
        if not self.over:
            await until_published(self._publish(kind, self._link.number(), body), self._fail)
            self._is_settled = True

    def _post(self, kind: FrameKind, body: bytes) -> None:
        """Publish a frame that nobody waits for."""
        if not self.over:
            post(self._publish(kind, self._link.number(), body), self._fail)

    def _fail(self) -> None:
        """The carrier has not taken what was said last: the edge would wait for ever for more."""
        self.detach()
        self._reset()

    # What `rooms.connect` asks of the edge.

    async def call(
        self, verb: str, timeout: float, then: Then | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Have the edge do something, and return what it says; `then` does at once what that says.

        Raises `Refused`, `AdapterUnavailable`, or `ConnectionError` if the client is gone, and
        `UsageError` if it is too long to be asked.
        """
        if self.over or self._closed is not None:
            raise ConnectionError("the client is gone")
        with self._calls.begin(then) as call:
            body = self._calls.pack(call.number, verb, **arguments)
            await self._frame(FrameKind.CALL, body)
            return await call.reply(verb, timeout)

    def tell(self, verb: str, **arguments: Any) -> None:
        """Have the edge do something that is not waited for. Raises `UsageError` as `call` does."""
        if not self.over and self._closed is None:
            self._post(FrameKind.CALL, self._calls.pack(0, verb, **arguments))

    # The edge's side.

    def received(self, frame: Frame) -> bool:
        """Take a frame of the edge. False if one is missing, or it cannot be: it is over then."""
        if not self._link.follows(frame.sequence):
            return False
        kind, body = frame.kind, frame.body
        if kind in wire.MESSAGES:
            self._incoming.came(kind, body)
            if not self._link.came(len(body)):
                return False
        elif kind is FrameKind.CREDIT:
            if not self._link.credited(*wire.unpack_credit(body)):
                return False
        elif kind is FrameKind.CLOSE:
            self._is_settled = True
            self.client_gone(*wire.unpack_close(body))
        elif kind is FrameKind.REPLY:
            self._calls.replied(wire.read_json(body))
        elif kind is FrameKind.EVENT:
            event = wire.read_json(body)
            for told in tuple(self.on_event):
                told(event)
        else:
            return False
        self._changed.set()
        return True

    def client_gone(self, code: int = ABNORMAL_CLOSURE, reason: str = "") -> None:
        """The client is gone, or its edge is."""
        if self._closed is None:
            self._closed = code, reason
        self._calls.fail()
        for lost in tuple(self.on_lost):
            lost()
        self._changed.set()

    def detach(self, code: int = SERVICE_RESTART) -> None:
        """This connection is over, as something was missed: the edge opens another.

        Which is told that the endpoint has not taken what waits here.
        """
        self.over = self._is_settled = True
        self._incoming.clear()
        self.client_gone(code)

    async def release(self, timeout: float) -> None:
        """Have another backend go on: end the endpoint where it reads, or after `timeout`."""
        task = self.task
        self._released = True
        self._changed.set()
        if task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while not (self._receiving or task.done() or self._closed is not None):
                        self._changed.clear()
                        waiting = asyncio.ensure_future(self._changed.wait())
                        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
                        waiting.cancel()
        ending = set[asyncio.Future[None]]()
        if self._state in ("connecting", "accepted") and self._closed is None and not self.over:
            self._telling.at_last()
            body = wire.pack_release(self._link.taken)
            # It is waited for: a connection to the carrier that is closed now could take it along.
            publishing = self._publish(FrameKind.RELEASE, self._link.number(), body)
            ending.add(asyncio.ensure_future(_accepted(publishing)))
        self.over = True
        if task is not None and not task.done():
            task.cancel()
            ending.add(task)
        if ending:
            await asyncio.wait(ending, timeout=timeout)


async def _accepted(publishing: Awaitable[object]) -> None:
    with suppress(AdapterUnavailable):
        await publishing


def _unnumbered(publish: Publish, kind: FrameKind, body: bytes) -> Awaitable[object]:
    return publish(kind, 0, body)
