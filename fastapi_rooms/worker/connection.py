"""What `rooms.connect(websocket)` does: connect a client, and close it however the block ends."""

from __future__ import annotations

import asyncio
import logging
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fastapi_rooms.core.close_codes import NORMAL_CLOSURE, shorten_reason
from fastapi_rooms.core.costs import ENTRY_BYTES
from fastapi_rooms.core.names import check_room
from fastapi_rooms.errors import InvalidRoomName, SidInUse, SocketClosed
from fastapi_rooms.servers import open_transport
from fastapi_rooms.transports import Transport
from fastapi_rooms.types import Sid
from fastapi_rooms.worker.blocks import AsyncBlock
from fastapi_rooms.worker.causes import causes_of, is_cancelled, is_use_after_disconnect
from fastapi_rooms.worker.edge_namespace import EdgeNamespace
from fastapi_rooms.worker.framed_transport import FramedTransport
from fastapi_rooms.worker.hello import framed_for, say_hello
from fastapi_rooms.worker.local_namespace import LocalNamespace
from fastapi_rooms.worker.refusals import (
    bad_sid,
    can_answer_by_http,
    close_of,
    raise_that_client_is_gone,
    refusal_of,
    turns_away,
)
from fastapi_rooms.worker.socket import Socket

logger = logging.getLogger("fastapi_rooms")

ENDPOINT_TIMEOUT = 0.5
"""Seconds that an endpoint has to end by itself once its client is gone and the worker drains."""

CLOSE_TIMEOUT = 5.0
"""Seconds that a client has to take what is left for it, or a close frame."""

_CONNECTIONS = "fastapi_rooms.connections"
"""Where an ASGI scope has the blocks that its WebSocket is in: one for each of its namespaces."""


class Connection(AsyncBlock):
    """The async context manager that a `Socket` lives in."""

    usage = "A client is connected for a block: `async with rooms.connect(websocket) as socket:`."

    __slots__ = (
        "_accept",
        "_accepted",
        "_beside",
        "_cancelled",
        "_cancelling",
        "_closer",
        "_data",
        "_ended",
        "_namespace",
        "_over",
        "_sid",
        "_task",
        "_websocket",
        "socket",
        "transport",
    )

    def __init__(
        self,
        namespace: LocalNamespace | EdgeNamespace,
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
        self._ended: asyncio.Future[None] | None = None
        self._cancelled = False
        self._over = False
        self._beside: list[Connection] = websocket.scope.setdefault(_CONNECTIONS, [])

    async def __aenter__(self) -> Socket:
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        if self._websocket.application_state is WebSocketState.CONNECTING:
            await self._accept_client()
        else:
            try:
                check_room(self._sid)
            except InvalidRoomName as error:
                raise bad_sid(error, accepted=True) from None
        runtime = self._namespace.runtime
        transport = open_transport(
            self._websocket,
            self._namespace.outbox,
            self._overflowed,
            self.lost,
            runtime.run.begin_drain,
            direct_writes=runtime.settings.direct_writes,
            compression=runtime.settings.compression,
        )
        framed = self._framed_over(transport)
        self.transport: Transport = framed or transport
        self.socket = Socket(
            self._namespace, self._websocket, self.transport, self._sid, self._data
        )
        self._beside.append(self)
        try:
            if framed is not None and not await self._greet(framed):
                self.lost()
            await self._namespace.enter(self)
        except BaseException as error:
            self._end()
            refusal = refusal_of(error)
            if refusal is error:
                raise
            if self.socket.is_lost:
                await raise_that_client_is_gone(self._websocket)
            raise refusal from error
        if self.socket.is_lost:  # while it came in
            self._namespace.exit(self)
        return self.socket

    def _framed_over(self, transport: Transport) -> FramedTransport | None:
        """The transport to a client to whom the framing is spoken here."""
        is_ours = self._accepted and isinstance(self._namespace, LocalNamespace)
        return framed_for(self._websocket, transport) if is_ours else None

    async def _greet(self, framed: FramedTransport) -> bool:
        """Begin to speak the framing; false if the client is gone."""
        window = self._namespace.runtime.settings.drain_schedule.window
        return await say_hello(self._websocket, framed, window)

    async def _accept_client(self) -> None:
        """Accept, unless the sid cannot be had: that is said before, where the server can."""
        try:
            self._check_sid()
        except (SidInUse, InvalidRoomName) as error:
            accepted = not can_answer_by_http(self._websocket)
            if accepted:
                await self._websocket.accept(*self._accept)
            raise bad_sid(error, accepted=accepted) from None
        if isinstance(self._namespace, EdgeNamespace):
            self._namespace.accepts()
        await self._websocket.accept(*self._accept)
        self._accepted = True

    def _check_sid(self) -> None:
        check_room(self._sid)
        self._namespace.clients.check_free(self._sid)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._over = True
        self._namespace.clients.disconnects.begin(
            self
        )  # if it is to be, with the code that was said
        self._namespace.exit(self)  # before anything that waits, and could be cancelled
        causes, cancelled = list(causes_of(exc)), self.take_cancellation_back()
        quietly = False
        try:
            if exc is None:
                await self._close_normally()
            else:
                quietly = await self._close_for(causes, cancelled=cancelled)
        finally:
            try:
                if self._closer is not None:
                    await self._wait_for(self._closer, hurry=is_cancelled(causes) and not quietly)
            finally:
                self._end()
        return quietly

    def _end(self) -> None:
        """The block is over."""
        self.transport.stop()
        self._beside.remove(self)
        self._namespace.ended(self)
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)
        # The task refers to this. As long as each has the other, both wait for the garbage
        # collector, with the server's connection and all that hangs on it.
        self._task = None

    # How the block ends.

    async def _close_normally(self) -> None:
        """The endpoint has nothing more to say: close what we accepted, behind what it said."""
        if self.transport.is_flushed:
            taken = await self.transport.flush()
        else:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    taken = await self.transport.flush()
            except TimeoutError:
                self.transport.abort()
                return
        is_open = taken and self._websocket.client_state is WebSocketState.CONNECTED
        is_ours = self._accepted and self._closer is None  # else somebody else closes it
        if is_open and is_ours and not await self._close(NORMAL_CLOSURE, ""):
            self.transport.abort()

    async def _close_for(self, causes: list[BaseException], *, cancelled: bool) -> bool:
        """Close as the causes say, and return true, if they are all about this client.

        That is: it left, erred, or has to be turned away. What is about another client, or another
        manager, is an exception like any other. `cancelled`: whether a cancellation is ours alone.
        """
        manager = self._namespace.runtime.manager
        turned_away = [cause for cause in causes if turns_away(cause, self.socket, manager)]
        for cause in causes:
            is_ours = cancelled and isinstance(cause, asyncio.CancelledError)
            if not (is_ours or cause in turned_away or self._means_gone(cause)):
                return False
        for cause in turned_away[:1]:
            await self._close(*close_of(cause, self.socket))
        return True

    def _means_gone(self, exc: BaseException) -> bool:
        """Whether this is only how an endpoint learns that its client is gone."""
        if isinstance(exc, WebSocketDisconnect) or is_use_after_disconnect(exc):
            socket = getattr(exc, "socket", None)
            return socket is self.socket if socket is not None else self._is_gone()
        # Its endpoint was still busy for it.
        return isinstance(exc, SocketClosed) and exc.socket is self.socket and self._is_gone()

    async def _wait_for(self, closer: asyncio.Task[None], *, hurry: bool) -> None:
        """The block is over before its client was closed: wait for that, unless in a hurry."""
        try:
            if not hurry:
                await asyncio.wait((closer,))
        finally:
            if not closer.done():
                closer.cancel()
                self.transport.abort()

    # What the namespace calls.

    def disconnect(self, code: int, reason: str) -> None:
        """Take the socket out of every room, and close the client behind what was sent to it."""
        self._begin_closing(code, reason, flush=True)

    async def drain(self, timeout: float) -> None:
        """Close the client with 1012 behind what was sent to it, and see that its endpoint ends.

        An endpoint that reads ends by itself then. One that does not, as it only pushes or listens
        elsewhere, is cancelled, quietly. `timeout` is how many seconds all of that may take.
        """
        if self._task is None:  # the block has ended before its turn
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        self._ended = ended = loop.create_future()
        closing = self._closer
        if self._namespace.rooms_of(self.socket):  # else it has left, or is being closed
            # In a task of its own, as there are servers that keep a cancellation to themselves.
            closing = asyncio.create_task(self._drain_transport(timeout))
        if closing is not None:
            try:
                await asyncio.wait((closing, ended), timeout=timeout, return_when=FIRST_COMPLETED)
            finally:
                if closing is not self._closer:
                    closing.cancel()
        left = max(deadline - loop.time(), 0)
        await asyncio.wait((ended,), timeout=left if self._over else min(ENDPOINT_TIMEOUT, left))
        if not ended.done():
            self._cancel_endpoint()
            left = max(deadline - loop.time(), ENDPOINT_TIMEOUT)
            await asyncio.wait((ended,), timeout=left)
        if not (ended.done() or self._over):
            logger.warning(
                "The endpoint of %s was cancelled, as this worker drains, and has not ended within "
                "%g s; the server may wait for it. Code that catches CancelledError must raise it "
                "again.",
                self.socket,
                left,
            )
        self._ended = None

    def lost(self) -> None:
        """The connection is lost: the socket leaves, whether or not its endpoint notices.

        So do the sockets that the same WebSocket has in other namespaces.
        """
        for connection in tuple(self._beside):
            connection.socket.is_lost = True
            connection._namespace.exit(connection)

    # Closing.

    def _is_gone(self) -> bool:
        """Whether this client is disconnected, or about to be."""
        gone = WebSocketState.DISCONNECTED
        states = (self._websocket.client_state, self._websocket.application_state)
        return self._closer is not None or self.socket.is_lost or gone in states

    def _overflowed(self) -> None:
        """The transport has dropped all that waited, as the client does not read."""
        policy = self.transport.policy
        if self._begin_closing(policy.close_code, "too slow", flush=False):
            logger.info(
                "%s was closed (%d): more than %d bytes waited for it to read, where each message "
                "counts its length and %d bytes",
                self.socket,
                policy.close_code,
                policy.max_bytes,
                ENTRY_BYTES,
            )

    def _begin_closing(self, code: int, reason: str, *, flush: bool) -> bool:
        """Leave the namespace, and close the client in a task; false if it has left already."""
        if not self._namespace.exit(self):
            return False
        self._closer = asyncio.create_task(self._close_client(code, reason, flush=flush))
        return True

    async def _close_client(self, code: int, reason: str, *, flush: bool) -> None:
        """Close; abort the connection of a client that does not take the close frame."""
        if flush:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._namespace.written()
                    await self.transport.flush()
            logger.debug("%s was disconnected (%d): %r", self.socket, code, reason)
        told = await self._close(code, reason) or self.transport.abort()
        if not told:
            # The server waits for the client to read before it closes the connection, so the
            # endpoint would go on waiting for a client that is lost to it.
            self._cancel_endpoint()
        if len(self._beside) > 1:
            self.lost()

    def _cancel_endpoint(self) -> None:
        """Cancel the endpoint; the block ends quietly by that. One that is over waits no longer."""
        if self._over:
            self.transport.stop()
            self.transport.abort()
        elif self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def take_cancellation_back(self) -> bool:
        """Whether the endpoint was cancelled by us, and by nobody else; as `asyncio.timeout`."""
        if not self._cancelled or self._task is None:
            return False
        return self._task.uncancel() <= self._cancelling

    async def _drain_transport(self, timeout: float) -> None:
        try:
            await self._namespace.written()
            await self.transport.drain(timeout)
        except Exception as error:  # noqa: BLE001 -- each server has its own for this
            logger.debug("A client was gone before it could be closed: %r", error)

    async def _close(self, code: int, reason: str) -> bool:
        """Close with a code, if the client takes that in time; returns whether it is closed."""
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return True
        # In a task of its own, as there are servers that keep a cancellation to themselves.
        closing = asyncio.ensure_future(self._websocket.close(code, shorten_reason(reason)))
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
