"""What `rooms.connect(websocket)` does: bring a client in, and see it out whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from starlette import websockets
from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.errors import AdapterUnavailable, ClientError, ShuttingDown, SocketClosed
from fastapi_rooms.transports.base import SERVICE_RESTART, Transport, ignore
from fastapi_rooms.types import Sid
from fastapi_rooms.worker.socket import Home, Socket

logger = logging.getLogger("fastapi_rooms")

NORMAL_CLOSURE, TRY_AGAIN_LATER = 1000, 1013
CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to take what is left for it, or a close frame."""


class Entrance(Home, Protocol):
    """The namespace a connection brings its socket into, and out of."""

    @property
    def outbox(self) -> OutboxPolicy:
        """What happens to a client that does not keep up."""

    def open_transport(self, websocket: WebSocket, on_overflow: Callable[[], None]) -> Transport:
        """A way to the client of an accepted connection."""

    async def enter(self, socket: Socket, transport: Transport) -> None:
        """Bring the socket in.

        Raises `AdapterUnavailable`, `ShuttingDown`, `SidInUse` or `NotStarted`.
        """

    def exit(self, socket: Socket) -> bool:
        """Take the socket out of every room; returns whether it was in."""

    async def written(self) -> None:
        """Return when every broadcast that was sent before is with the sockets it is for."""


class Connection:
    """The async context manager that a `Socket` lives in."""

    __slots__ = (
        "_accept",
        "_accepted",
        "_cancelled",
        "_cancelling",
        "_closer",
        "_data",
        "_namespace",
        "_over",
        "_sid",
        "_socket",
        "_task",
        "_transport",
        "_websocket",
    )

    def __init__(
        self,
        namespace: Entrance,
        websocket: WebSocket,
        sid: Sid,
        data: dict[str, Any],
        subprotocol: str | None,
        headers: Iterable[tuple[bytes, bytes]] | None,
    ) -> None:
        self._namespace = namespace
        self._websocket = websocket
        self._accept = (subprotocol, headers)
        self._accepted = False
        self._sid = sid
        self._data = data
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._closer: asyncio.Task[None] | None = None
        self._cancelled = False
        self._over = False

    async def __aenter__(self) -> Socket:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if self._websocket.application_state is WebSocketState.CONNECTING:
            await self._websocket.accept(*self._accept)
            self._accepted = True
        self._transport = self._namespace.open_transport(self._websocket, self._overflowed)
        self._socket = Socket(
            self._namespace,
            self._websocket,
            self._transport,
            self._sid,
            self._data,
            self._dismiss,
        )
        try:
            await self._namespace.enter(self._socket, self._transport)
        except BaseException as error:
            self._transport.stop()
            self._let_loose()
            if isinstance(error, AdapterUnavailable):
                logger.info("A client was turned away (1013): %s", error)
                raise WebSocketException(TRY_AGAIN_LATER, "try again later") from error
            if isinstance(error, ShuttingDown):
                raise WebSocketException(SERVICE_RESTART, "service restart") from error
            raise
        return self._socket

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._namespace.exit(self._socket)  # before anything that waits, and could be cancelled
        quietly = False
        causes = [] if exc is None else list(_leaves(exc))
        try:
            if exc is None:
                await self._finish()
            else:
                quietly = await self._end(causes)
        finally:
            self._transport.stop()
            if self._closer is not None:
                cancelled = any(isinstance(cause, asyncio.CancelledError) for cause in causes)
                await self._see_out(self._closer, hurry=cancelled and not quietly)
            self._let_loose()
        return quietly

    def _let_loose(self) -> None:
        """Refer to nobody who refers to this: see `ignore`."""
        self._task = None
        self._socket.dismiss = ignore

    async def _finish(self) -> None:
        """The endpoint has nothing more to say: close what we accepted, behind what it said."""
        if self._transport.is_flushed:
            taken = await self._transport.flush()
        else:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    taken = await self._transport.flush()
            except TimeoutError:
                self._transport.abort()
                return
        there = taken and self._websocket.client_state is WebSocketState.CONNECTED
        mine = self._accepted and self._closer is None  # else somebody else is closing it
        if there and mine and not await self._close(NORMAL_CLOSURE, ""):
            self._transport.abort()

    async def _see_out(self, closer: asyncio.Task[None], *, hurry: bool) -> None:
        """The block is over before its client, which was given up, could be told."""
        self._over = True
        try:
            if not hurry:
                await asyncio.wait((closer,))
        finally:
            if not closer.done():
                closer.cancel()
                self._transport.abort()

    async def _end(self, causes: list[BaseException]) -> bool:
        """End quietly if it is only that the client left, erred or has to be turned away."""
        reasons = ClientError | AdapterUnavailable | ShuttingDown
        turned_away = [cause for cause in causes if isinstance(cause, reasons)]
        if not all(cause in turned_away or self._is_going(cause) for cause in causes):
            return False
        for cause in turned_away[:1]:
            if isinstance(cause, ClientError):
                logger.debug("%s was closed (%d): %s", self._socket, cause.code, cause)
                await self._close(cause.code, str(cause))
            elif isinstance(cause, ShuttingDown):
                await self._close(SERVICE_RESTART, "service restart")
            else:
                logger.info("%s was closed (1013): %s", self._socket, cause)
                await self._close(TRY_AGAIN_LATER, "try again later")
        return True

    def _is_going(self, exc: BaseException) -> bool:
        """Whether this is only how an endpoint learns that its client is gone."""
        if isinstance(exc, WebSocketDisconnect) or _is_use_after_disconnect(exc):
            return True
        if isinstance(exc, SocketClosed) and self._closer is not None:
            return True  # we gave the client up while its endpoint was still busy for it
        if isinstance(exc, asyncio.CancelledError) and self._cancelled and self._task is not None:
            return self._task.uncancel() <= self._cancelling  # as asyncio.timeout does
        return False

    def _overflowed(self) -> None:
        """The transport has given the client up, as it does not read."""
        if self._namespace.exit(self._socket):
            self._closer = asyncio.create_task(self._give_up())

    def _dismiss(self, code: int, reason: str) -> None:
        """The application wants this client to go, wherever it said so."""
        if self._namespace.exit(self._socket):
            self._closer = asyncio.create_task(self._see_off(code, reason))

    async def _see_off(self, code: int, reason: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._namespace.written()
                await self._transport.flush()
        logger.debug("%s was dismissed (%d): %s", self._socket, code, reason)
        await self._let_go(code, reason)

    async def _give_up(self) -> None:
        policy = self._namespace.outbox
        logger.info(
            "%s was closed (%d): it left more than %d bytes unread",
            self._socket,
            policy.close_code,
            policy.max_bytes,
        )
        await self._let_go(policy.close_code, "too slow")

    async def _let_go(self, code: int, reason: str) -> None:
        """Close; cut the connection of a client that does not take the close frame."""
        told = await self._close(code, reason) or self._transport.abort()
        if not told and not self._over:
            # The server waits for the client to read before it says goodbye, so the endpoint would
            # go on waiting for a client that is lost to it.
            self._cancelled = True
            assert self._task is not None
            self._task.cancel()

    async def _close(self, code: int, reason: str) -> bool:
        """Close with a code, if the client takes that in time; returns whether it is closed."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return True
        # In a task of its own, as there are servers that keep a cancellation to themselves.
        closing = asyncio.ensure_future(
            self._websocket.close(code, reason.encode()[:123].decode(errors="ignore"))
        )
        _closing.add(closing)
        closing.add_done_callback(_closed)
        try:
            done, _ = await asyncio.wait((closing,), timeout=CLOSE_TIMEOUT)
        finally:
            closing.cancel()
        return bool(done) and not closing.cancelled() and closing.exception() is None


_closing: set[asyncio.Future[None]] = set()


def _closed(closing: asyncio.Future[None]) -> None:
    _closing.discard(closing)
    if not closing.cancelled() and (error := closing.exception()) is not None:
        logger.debug("A socket could not be closed: %r", error)


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """What an `asyncio.TaskGroup` in the block failed of, or the one exception itself."""
    if isinstance(exc, BaseExceptionGroup):
        for cause in exc.exceptions:
            yield from _leaves(cause)
    else:
        yield exc


def _is_use_after_disconnect(exc: BaseException) -> bool:
    """Starlette's way to say that a `websocket.receive_*` or `send_*` came after the end."""
    kind = getattr(websockets, "WebSocketDisconnected", None)
    if kind is not None:
        return isinstance(exc, kind)
    return isinstance(exc, RuntimeError) and str(exc).startswith(
        ("WebSocket is not connected", 'Cannot call "')
    )
