"""One channel of a client's connection, as its application sees it: an ASGI `receive`, `send`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

from starlette.types import ASGIApp, Message

from fastapi_rooms.concurrency import FAULTS
from fastapi_rooms.core.close_codes import (
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    TRY_AGAIN_LATER,
    shorten_reason,
)
from fastapi_rooms.core.link import MESSAGE_BYTES
from fastapi_rooms.core.windows import ReceiveWindow, SendWindow
from fastapi_rooms.wire import mux as wire

logger = logging.getLogger("fastapi_rooms")

SCOPE_KEY = "fastapi_rooms.channel"
"""Where an ASGI scope has its channel."""

WINDOW = 64 * 1024
"""Bytes that a client may send on a channel ahead of the application."""

CLIENT_WINDOW = 256 * 1024
"""Bytes that it is sent ahead of what it has taken, unless it says otherwise."""


MAX_WAITING = 16 * 1024 * 1024
"""Bytes that may wait for the applications of one connection. The windows of as many channels as
there may be are less: only very long messages come to this."""


class ChannelHost(Protocol):
    """What a channel needs of the connection that it is on."""

    waiting: int
    """How many bytes wait for the applications of all channels."""

    def write(self, data: bytes, *, binary: bool = False) -> None:
        """Send a message behind all that was sent before."""

    @property
    def is_flushed(self) -> bool:
        """Whether the server takes what is sent now."""

    async def flush(self) -> None:
        """Return once the server takes what is sent. Raises `OSError` if it is closed."""

    def owes_credit(self, channel: Channel) -> None:
        """Have `give_credit` called, once there is room for a message."""

    def is_over(self, channel: Channel) -> None:
        """The client was told that a channel is over: its number is free."""

    async def drain(self, timeout: float) -> None:
        """Close the connection with 1012, behind all that was sent before."""


def channel_of(scope: MutableMapping[str, Any]) -> Channel | None:
    """The channel of an ASGI scope, if it is one of a connection with channels."""
    found = scope.get(SCOPE_KEY)
    return found if isinstance(found, Channel) else None


class Channel:
    """A WebSocket connection of its own, to its application."""

    def __init__(self, host: ChannelHost, opened: wire.Open, scope: dict[str, Any]) -> None:
        self._host = host
        self.number = opened.channel
        self.scope = scope | {SCOPE_KEY: self}
        self._text_prefix = wire.text_prefix(self.number)
        self._bytes_prefix = wire.bytes_prefix(self.number)
        self._may_send = SendWindow(opened.window or CLIENT_WINDOW)
        self._came = ReceiveWindow(WINDOW)
        self._incoming: deque[str | bytes] = deque()
        self._changed = asyncio.Event()
        self._told_connect = False
        self._accepted = False
        self._is_over = False
        self._status: int | None = None
        self._ended: tuple[int, str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._on_lost: list[Callable[[], None]] = []
        self._intercepted: str | None = None
        self._answer: Callable[[], None] | None = None

    # The application's side.

    def start(self, app: ASGIApp) -> asyncio.Task[None]:
        """Run the application in a task, and have the client told how that ends."""
        self._task = asyncio.create_task(self._run(app))
        return self._task

    async def _run(self, app: ASGIApp) -> None:
        try:
            await app(self.scope, self.receive, self.send)
        except FAULTS:
            logger.exception("The application of a channel has failed")
        finally:
            if self._accepted:
                self._tell_closed(INTERNAL_ERROR, "")
            else:
                self._tell_over(wire.denied(self.number, 500))
            self._on_lost.clear()
            self._answer = None
            self.scope = {}  # it has this: only the garbage collector would free the two
            self._host.waiting -= self._came.waiting
            self._incoming.clear()

    async def receive(self) -> Message:
        """The client's next message, as ASGI has it. A call that is cancelled takes none."""
        if not self._told_connect:
            self._told_connect = True
            return {"type": "websocket.connect"}
        while not self._incoming:
            if self._ended is not None:
                code, reason = self._ended
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._changed.clear()
            await self._changed.wait()
        payload = self._incoming.popleft()
        size = _size(payload)
        self._host.waiting -= size + MESSAGE_BYTES
        if self._came.took(size) and not self._is_over:
            self._host.owes_credit(self)
        return {"type": "websocket.receive", _KINDS[type(payload)]: payload}

    async def send(self, message: Message) -> None:
        """Send what the application has for the client. Raises `OSError` when that is gone."""
        kind = message["type"]
        self._check_open()
        if kind == "websocket.send" and self._accepted:
            text = message.get("text")
            data = message["bytes"] if text is None else text.encode()
            await self.send_data(data, binary=text is None)
        elif kind == "websocket.accept" and not self._accepted:
            self._accepted = True
            protocol = message.get("subprotocol")
            await self._say(wire.opened(self.number, WINDOW, protocol))
        elif kind == "websocket.close" and self._accepted:
            self.closed(message.get("code", 1000), message.get("reason") or "")
            await self._host.flush()
        elif kind == "websocket.close":
            await self._deny(403)
        elif kind == "websocket.http.response.start" and not self._accepted:
            self._status = message["status"]
        elif kind == "websocket.http.response.body" and self._status is not None:
            if not message.get("more_body", False):
                await self._deny(self._status)
        else:
            raise RuntimeError(f"Unexpected ASGI message {kind!r}")

    async def send_data(self, data: bytes, *, binary: bool) -> None:
        """Send a message, as soon as the client has room for it. Raises `OSError` if it is gone."""
        self._check_open()
        while not self._may_send.may_send:
            self._changed.clear()
            await self._changed.wait()
            self._check_open()
        self._write(data, binary=binary)
        await self._host.flush()

    def send_at_once(self, data: bytes, *, binary: bool) -> bool:
        """Send a message, if the client and the server have room for it; else return false."""
        has_room = self._may_send.may_send and self._host.is_flushed and not self._is_over
        if has_room:
            self._write(data, binary=binary)
        return has_room

    def _write(self, data: bytes, *, binary: bool) -> None:
        self._may_send.sent(len(data))
        prefix = self._bytes_prefix if binary else self._text_prefix
        self._host.write(prefix + data, binary=binary)

    async def reopened(self) -> None:
        """Tell the client that another backend goes on with it."""
        if not self._is_over:
            await self._say(wire.reopened(self.number))

    async def drain(self, timeout: float) -> None:
        """Close the connection with 1012, and so this channel and all others."""
        await self._host.drain(timeout)

    def _check_open(self) -> None:
        if self._is_over:
            raise OSError("The client is disconnected")

    async def _say(self, data: bytes) -> None:
        self._host.write(data)
        await self._host.flush()

    async def _deny(self, status: int) -> None:
        self._tell_over(wire.denied(self.number, status))
        await self._host.flush()

    def _tell_closed(self, code: int, reason: str) -> None:
        self._tell_over(wire.closed(self.number, code, shorten_reason(reason)))

    def _tell_over(self, data: bytes) -> None:
        """Say the last about this channel, unless that was done."""
        if not self._is_over:
            self._is_over = True
            self._host.write(data)
            self._host.is_over(self)
            self._changed.set()

    # The client's side.

    def came(self, payload: str | bytes) -> None:
        """Take a message of the client. What it sends beyond its credit closes the channel."""
        if self._is_over:
            return
        if not self._accepted:
            self.closed(POLICY_VIOLATION, "sent before it was open")
            return
        size = _size(payload)
        has_room = self._came.came(size)
        if has_room and self._answer is not None and payload == self._intercepted:
            if self._came.took(size):
                self._host.owes_credit(self)
            self._answer()
            return
        self._host.waiting += size + MESSAGE_BYTES
        self._incoming.append(payload)
        self._changed.set()
        if not has_room:
            self.closed(POLICY_VIOLATION, "sent beyond its credit")
        elif self._host.waiting > MAX_WAITING:
            self.closed(TRY_AGAIN_LATER, "too much is waiting")

    def credited(self, size: int) -> None:
        """The client has taken so many bytes."""
        if self._may_send.credited(size):
            self._changed.set()
        else:
            self.closed(POLICY_VIOLATION, "gave credit for what was not sent")

    def give_credit(self) -> None:
        """Tell the client how much was taken of what it has sent."""
        size = self._came.credit()
        if size and not self._is_over:
            self._host.write(wire.credit(self.number, size))

    def closed(self, code: int, reason: str) -> None:
        """It is closed, by either side. What the client has sent before is still read."""
        self._tell_closed(code, reason)
        self.end(code, reason)

    def end(self, code: int, reason: str) -> None:
        """The client is gone, and this is how."""
        if self._ended is None:
            self._ended = code, reason
            self._is_over = True
            self._changed.set()
            self.lost()
            if not self._accepted and self._task is not None:
                self._task.cancel()  # nothing reads from a client that was not accepted

    def lost(self) -> None:
        """The client is gone, whether or not the application has read so far."""
        for lost in self._on_lost:
            asyncio.get_running_loop().call_soon(lost)
        self._on_lost.clear()

    def intercept(self, text: str, answer: Callable[[], None]) -> None:
        """Have this called when the client sends this text, which the application does not get."""
        self._intercepted, self._answer = text, answer

    def on_lost(self, lost: Callable[[], None]) -> None:
        """Have this called when the client is gone: soon, or once it is."""
        self._on_lost.append(lost)
        if self._ended is not None:
            self.lost()


_KINDS = {str: "text", bytes: "bytes"}


def _size(payload: str | bytes) -> int:
    return len(payload.encode()) if isinstance(payload, str) else len(payload)
