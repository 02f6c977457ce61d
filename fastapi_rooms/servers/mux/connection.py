"""A client's connection with channels: reads from it, and runs the application for each channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketState

from fastapi_rooms.core.close_codes import NO_STATUS, NORMAL_CLOSURE, PROTOCOL_ERROR
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Batch, Payload
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.servers.mux.channel import Channel
from fastapi_rooms.transports import Transport
from fastapi_rooms.wire import mux as wire

logger = logging.getLogger("fastapi_rooms")

IDLE_TIMEOUT = 60.0
"""Seconds that a connection may be without a channel."""

_KEYS = ("type", "asgi", "http_version", "scheme", "root_path", "client", "server", "state")
"""What the scope of a channel has of that of its connection."""

MAX_TURN = 64 * 1024
"""Bytes that are gathered in one turn of the event loop, to be written at once."""

IN_A_TURN = 16
"""Messages of a client that are taken in one turn of the event loop."""

_ALL = OutboxPolicy(max_bytes=2**48)
"""Nothing is dropped: each channel waits for one message at most, and has an outbox of its own."""


class OpenTransport(Protocol):
    """Opens the transport of an accepted connection."""

    def __call__(
        self,
        websocket: WebSocket,
        policy: OutboxPolicy,
        on_overflow: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> Transport:
        """The fastest that the server allows."""


class MuxConnection:
    """One, from its handshake, which was received, to its end."""

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        max_channels: int,
        open_transport: OpenTransport,
    ) -> None:
        self._app = app
        self._scope = scope
        self._websocket = WebSocket(scope, receive, send)
        self._websocket.client_state = WebSocketState.CONNECTED
        self._max_channels = max_channels
        self._open_transport = open_transport
        self._transport: Transport
        self._channels: dict[int, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._owing: dict[Channel, None] = {}
        self._crediting: asyncio.Task[None] | None = None
        self._turn: list[Payload] = []
        self._turn_size = 0
        self._draining: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[Any] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._is_over = False
        self.waiting = 0

    async def run(self) -> None:
        """Hold the connection until it is over, and all its channels are."""
        await self._websocket.accept(wire.SUBPROTOCOL)
        self._transport = self._open_transport(self._websocket, _ALL, self._lost, self._lost)
        try:
            self._watch_idle()
            end = await self._read()
            for channel in list(self._channels.values()):
                channel.end(*end)
            if self._tasks:  # a server that ends may cancel this
                await asyncio.wait(self._tasks)
        finally:
            self._stop()
            if self._tasks:
                await asyncio.wait(self._tasks)
            self._channels.clear()

    def _stop(self) -> None:
        self._is_over = True
        if self._idle is not None:
            self._idle.cancel()
        if self._crediting is not None:
            self._crediting.cancel()
        self._write_turn()
        self._transport.stop()
        for task in self._tasks:
            task.cancel()

    # What the client says.

    async def _read(self) -> tuple[int, str]:
        """Read until the end, and return how that is."""
        taken = 0
        try:
            while True:
                taken += 1
                if taken % IN_A_TURN == 0:
                    await asyncio.sleep(0)  # what waits for nothing would let nobody else in
                message = await self._transport.receive()
                if message["type"] == "websocket.disconnect":
                    return message.get("code") or NO_STATUS, message.get("reason") or ""
                with suppress(OSError):  # it is closed: that comes next
                    await self._take(_read(message))
        except MalformedEnvelope as error:
            logger.debug("A client breaks the rules of its channels: %s", error)
            return await self._close(PROTOCOL_ERROR, str(error))

    async def _take(self, said: wire.Open | wire.Credit | wire.Close | wire.Data) -> None:
        if isinstance(said, wire.Open):
            await self._open(said)
            return
        channel = self._channels.get(said.channel)
        if channel is None:
            return  # it was closed here, and the client did not know that yet
        if isinstance(said, wire.Data):
            channel.came(said.payload)
        elif isinstance(said, wire.Credit):
            channel.credited(said.size)
        else:
            channel.closed(said.code, said.reason)
        if said.channel not in self._channels:
            await self.flush()  # a client that does not read is not answered for ever

    async def _open(self, said: wire.Open) -> None:
        if said.channel in self._channels:
            raise MalformedEnvelope(f"channel {said.channel} is open already")
        target = wire.target_of(said)
        if isinstance(target, wire.Target) and len(self._tasks) >= self._max_channels:
            target = 429
        if isinstance(target, int):
            self.write(wire.denied(said.channel, target))
            await self.flush()
            return
        channel = Channel(self, said, self._scope_of(target, said.protocols))
        self._channels[said.channel] = channel
        task = channel.start(self._app)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _scope_of(self, target: wire.Target, protocols: tuple[str, ...]) -> dict[str, Any]:
        scope = {key: self._scope[key] for key in _KEYS if key in self._scope}
        offered = b"sec-websocket-protocol"
        headers = [(n, v) for n, v in self._scope["headers"] if n.lower() != offered]
        if protocols:
            headers.append((offered, ", ".join(protocols).encode()))
        root = scope.get("root_path", "").rstrip("/")
        return scope | {
            "path": root + target.path,
            "raw_path": quote(root).encode() + target.raw_path,
            "query_string": target.query,
            "headers": headers,
            "subprotocols": list(protocols),
            "extensions": {"websocket.http.response": {}},
        }

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not (self._tasks or self._is_over):
            self._watch_idle()

    def _watch_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_TIMEOUT, self._is_idle)

    def _is_idle(self) -> None:
        self._closing = asyncio.create_task(self._close(NORMAL_CLOSURE, "no channel"))

    async def _close(self, code: int, reason: str) -> tuple[int, str]:
        self._write_turn()
        if self._websocket.application_state is WebSocketState.CONNECTED:
            with suppress(Exception):  # every server raises its own
                await self._websocket.close(code, reason)
        return code, reason

    def _lost(self) -> None:
        for channel in list(self._channels.values()):
            channel.lost()

    # What channels call.

    def write(self, data: bytes, *, binary: bool = False) -> None:
        """Send a message behind all that was sent before, in this turn of the event loop."""
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._write_turn)
        self._turn.append(Payload(data, binary=binary))
        self._turn_size += len(data)
        if self._turn_size > MAX_TURN:
            self._write_turn()

    def _write_turn(self) -> None:
        turn, self._turn, self._turn_size = self._turn, [], 0
        if turn:
            self._transport.write(turn[0] if len(turn) == 1 else Batch(turn))

    @property
    def is_flushed(self) -> bool:
        """Whether the server takes what is sent now."""
        return self._transport.is_flushed

    async def flush(self) -> None:
        """Return once the server takes what is sent. Raises `OSError` if it is closed."""
        if not self._transport.is_flushed and not await self._transport.flush():
            raise OSError("The client is disconnected")

    def owes_credit(self, channel: Channel) -> None:
        """Have it give credit, at once or when there is room for a message."""
        if self.is_flushed:
            channel.give_credit()
            return
        self._owing[channel] = None
        if self._crediting is None:
            self._crediting = asyncio.create_task(self._give_credit())

    async def _give_credit(self) -> None:
        try:
            while self._owing:
                if not await self._transport.flush():
                    return
                owing, self._owing = self._owing, {}
                for channel in owing:
                    channel.give_credit()
        finally:
            self._crediting = None

    def is_over(self, channel: Channel) -> None:
        """The client was told that a channel is over: its number is free."""
        if self._channels.get(channel.number) is channel:
            del self._channels[channel.number]

    async def drain(self, timeout: float) -> None:
        """Close the connection with 1012, behind all that was sent before; once for all."""
        if self._draining is None:  # which begins behind what was sent in this turn
            self._draining = asyncio.create_task(self._transport.drain(timeout))
        await asyncio.shield(self._draining)


def _read(message: Message) -> wire.Open | wire.Credit | wire.Close | wire.Data:
    text = message.get("text")
    return wire.read_bytes(message["bytes"]) if text is None else wire.read_text(text)
