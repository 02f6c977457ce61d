"""One connection to RabbitMQ: bytes go straight between the socket and the reader of frames.

Strategy: as for Redis, no task and no await per message. The steps of `steps` open it; from then on
every event that has come is handed to its owner, some in each turn of the event loop.

A broker that sends nothing for two heartbeats is frozen, or gone without a word: the connection is
aborted. Everything that RabbitMQ closes, a channel or the connection, ends the link as well: what
else was under way on it is lost, or not known to be.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import cast

from fastapi_rooms.adapters.rabbitmq.links.access import Access
from fastapi_rooms.adapters.rabbitmq.links.frames import (
    BEAT,
    Event,
    FrameReader,
    Method,
    ProtocolError,
    commands,
    method,
)
from fastapi_rooms.adapters.rabbitmq.links.reasons import reason_of, said
from fastapi_rooms.adapters.rabbitmq.links.steps import Broker, Steps, refusal

logger = logging.getLogger("fastapi_rooms")

EVENTS_PER_TURN = 512
"""Frames that are handed over in one turn of the event loop."""

CLOSE_TIMEOUT = 1.0
"""Seconds that RabbitMQ has to agree to the end of a connection."""


class _NoMore:
    """Marks that nothing complete is left."""


_NO_MORE = _NoMore()


class Link(asyncio.Protocol):
    """A connection. `on_event` gets what comes once it is open, in order, until it is lost.

    `on_event` raises for what cannot come: the connection is aborted then, as for malformed bytes.
    """

    def __init__(self, steps: Steps[Broker], heartbeat: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._steps: Steps[Broker] | None = steps
        self._heartbeat = heartbeat
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._pending: Iterator[Event | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = self._loop.time()
        self._closing = False
        self._gone = asyncio.Event()
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when the steps are."""
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection is gone; the result says why."""
        self.broker = Broker("", "", 0, 0)
        """What is there, when the steps are done."""
        self.blocked = ""
        """Why RabbitMQ takes nothing that is published, while it does not; as it says it."""
        self.last_received = time.time()
        """When anything but a heartbeat last came, in seconds since the epoch."""
        self.on_event: Callable[[Event], None] = _ignore
        self.on_turn: Callable[[], None] = _nothing
        """Called behind the events of a turn."""
        self.on_writable: Callable[[], None] = _nothing
        """Called when `writable` has become true again, or `blocked` has changed."""
        self.writable = True

    @classmethod
    async def open(cls, access: Access, steps: Callable[[], Steps[Broker]], timeout: float) -> Link:
        """Connect to the first of the hosts that can be used, and take the steps there.

        Raises:
            Refused, ProtocolError, OSError, TimeoutError: it could not be done in `timeout`
                seconds. What the first host said is raised.
        """
        first: Exception | None = None
        deadline = asyncio.get_running_loop().time() + timeout
        for number, (host, port) in enumerate(access.hosts):
            left = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(left, 0) / (len(access.hosts) - number)):
                    return await cls._open(access, host, port, steps())
            except Exception as error:  # noqa: BLE001 -- raised below, if no other host can be used
                first = first or error
        assert first is not None
        raise first

    @classmethod
    async def _open(cls, access: Access, host: str, port: int, steps: Steps[Broker]) -> Link:
        link = cls(steps, access.heartbeat)
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: link, host, port, ssl=access.tls
            )
            await link.opened
        except BaseException:
            link.abort("not opened")
            if link._transport is not None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_TIMEOUT):
                        await link._gone.wait()
            raise
        return link

    def write(self, data: bytes) -> None:
        """Send bytes. What is written after the connection is lost is lost as well."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self, reason: str) -> None:
        """Abort the connection, without waiting for what is buffered; `reason` says why."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self._fail_opening(ConnectionError(reason))
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Say goodbye if the connection is up, and return when the socket is closed."""
        if not self.lost.done():
            self._closing = True
            self.lost.set_result("closed")
            self.write(method(commands.Connection.Close(200, "closed", 0, 0), 0))
            await self._wait_gone()
        self.abort("closed")
        await self._wait_gone()

    async def _wait_gone(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._gone.wait()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the first step."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not derive from it
        assert self._steps is not None
        self.write(next(self._steps))
        self._beat()

    def data_received(self, data: bytes) -> None:
        """Read what came, and hand over what is complete, some in each turn of the loop."""
        self._heard_at = self._loop.time()
        if data != BEAT:
            self.last_received = time.time()
        self._reader.feed(data)
        if self._pending is None:
            self._hand_over(EVENTS_PER_TURN)

    def _hand_over(self, limit: int) -> None:
        """Hand over events; if there are more, read on only after those, in later turns."""
        if self._pending is None:
            self._pending = self._reader.events()
        pending = self._pending
        try:
            for _ in range(limit):
                event = next(pending, _NO_MORE)
                if isinstance(event, _NoMore):
                    self._pending = None
                    break
                if event is not None:
                    self._happened(event)
                if self.lost.done() and not self._closing:
                    pending.close()  # type: ignore[attr-defined]  # it is a generator
                    return
            self.on_turn()
        except Exception as error:  # noqa: BLE001 -- whatever comes must end no loop
            self._fail(error)
            return
        if self._pending is not None and self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_soon(self._hand_over_more)

    def _hand_over_more(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.resume_reading()  # and pause again in the same turn, if need be
        self._hand_over(EVENTS_PER_TURN)

    def _fail(self, error: Exception) -> None:
        """What came cannot be understood, or ends the steps."""
        if not isinstance(error, ProtocolError):
            logger.debug("A connection to RabbitMQ failed", exc_info=error)
        self._fail_opening(error)
        self.abort(reason_of(error))

    def _fail_opening(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            self.opened.exception()  # whoever opened it may wait no more

    def _happened(self, event: Event) -> None:
        if isinstance(event, Method) and self._is_done_here(event):
            return
        if self._steps is None:
            self.on_event(event)
            return
        try:
            self.write(self._steps.send(event))
        except StopIteration as end:
            self._steps, self.broker = None, end.value
            if not self.opened.done():
                self.opened.set_result(None)

    def _is_done_here(self, event: Method) -> bool:
        """What concerns the connection as a whole; when it is open, also what ends a channel."""
        frame = event.frame
        if isinstance(frame, commands.Connection.CloseOk):
            self.abort("closed")
        elif isinstance(frame, commands.Connection.Blocked):
            self.blocked = said(frame.reason or "no reason given")
            self.on_writable()
        elif isinstance(frame, commands.Connection.Unblocked):
            self.blocked = ""
            self.on_writable()
        elif self._closing:
            pass  # of no matter any more
        elif self._steps is None and isinstance(frame, commands.Connection.Close):
            self.write(method(commands.Connection.CloseOk(), 0))
            self.abort_soon(str(refusal(frame)))
        elif self._steps is None and isinstance(frame, commands.Channel.Close):
            self.abort(str(refusal(frame)))
        else:
            return False
        return True

    def abort_soon(self, reason: str) -> None:
        """End it when what was written has been sent."""
        if not self.lost.done():
            self.lost.set_result(reason)
        if self._transport is not None:
            self._transport.close()

    def pause_writing(self) -> None:
        """RabbitMQ reads more slowly than we write."""
        self.writable = False

    def resume_writing(self) -> None:
        """RabbitMQ has caught up."""
        self.writable = True
        self.on_writable()

    def eof_received(self) -> None:
        """RabbitMQ has closed its half of the connection, and answers nothing any more."""
        self._hand_over_rest()
        self.abort("closed by RabbitMQ")

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss."""
        self._hand_over_rest()
        self._stop_timer()
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "closed")
        self._fail_opening(exc or ConnectionResetError("closed by RabbitMQ"))
        self._gone.set()

    def _hand_over_rest(self) -> None:
        """The connection is over: what has arrived on it counts all the same."""
        if self._pending is not None and not self.lost.done():
            self._hand_over(sys.maxsize)

    # Heartbeats.

    def _beat(self) -> None:
        silent = self._loop.time() - self._heard_at
        if silent > 2 * self._heartbeat:
            self.abort(f"nothing has come for {silent:.0f} s")
            return
        if self._steps is None:
            self.write(BEAT)
        self._timer = self._loop.call_later(self._heartbeat / 2, self._beat)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ignore(event: Event) -> None:
    """Nobody listens."""


def _nothing() -> None:
    """Nobody waits."""
