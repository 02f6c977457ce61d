"""A client's socket: one after the other connection, and the messages of all of them.

One task connects, receives and waits, from the beginning of the `async with` block to its end.
Whoever iterates takes what is in the `Inbox`. When to come back is `Reconnection`'s business.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from fastapi_rooms.client.inbox import Inbox
from fastapi_rooms.client.message import ClientMessage
from fastapi_rooms.client.options import ClientOptions, State, StateChange, ask, url_with
from fastapi_rooms.client.sending import SendQueue
from fastapi_rooms.client.silence import Silence
from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE, NORMAL_CLOSURE, check_close
from fastapi_rooms.core.printable import printable
from fastapi_rooms.core.reconnection import Reconnection
from fastapi_rooms.errors import ConfigurationError, Disconnected, NotConnected, UsageError
from fastapi_rooms.types import Room
from fastapi_rooms.wire import client_frames
from fastapi_rooms.wire.client_frames import Hello

if TYPE_CHECKING:
    from fastapi_rooms.client.connection import Connection, End

logger = logging.getLogger("fastapi_rooms")

CONNECT_TIMEOUT = 10.0
"""Seconds that an attempt may take, with the time for the URL, the token and the headers."""

HELLO_TIMEOUT = 2.0
"""Seconds after which a server that has said no hello is a plain one."""

SILENCE = 10.0
"""Seconds of silence, beyond what the server promised, after which nobody is there."""

LASTED = 5.0
"""Seconds after which a connection was a success."""

draw = random.SystemRandom().random
"""A number from 0 to 1, of which each client gets others."""


@dataclass(frozen=True, slots=True)
class _Loss:
    end: End
    window: float | None = None
    at_once: bool = False


class ClientSocket:
    """What `async with connect(…) as socket` gives: a WebSocket that comes back and resumes.

    Iterating over it gives the messages, over all connections. The iteration ends when it is over:
    after `close()`, or when the server has closed with 1000. After any other final close it raises
    `Disconnected`.
    """

    def __init__(self, options: ClientOptions, positions: Mapping[Room, str]) -> None:
        self._options = options
        self._inbox = Inbox(options, positions)
        self._reconnection = Reconnection(can_refresh=options.can_refresh, random=draw)
        self._sending: SendQueue[Connection] = SendQueue(
            options.buffer, self._writable, self.wait_open, self._write
        )
        self._state: State = "closed"
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._is_plain = False  # whether the server has said no hello the last time
        self._is_framed = False  # whether it has this time
        self._has_been_open = False
        self._has_failed = False
        self._is_over = False
        self._error: Exception | None = None  # why it is over; none if it was closed here
        self._goodbye = (NORMAL_CLOSURE, "")
        self._lasted: asyncio.TimerHandle | None = None
        self._opened = asyncio.Event()  # set, too, when it is over

    # The block.

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise UsageError("A client's socket is for one `async with` block: connect() again.")
        self._task = asyncio.create_task(self._run(), name="fastapi_rooms client")
        try:
            while not self._has_been_open:
                self._check()
                await self._opened.wait()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self._inbox.resumption.finish()
        await self.close()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it for good, and wait for the end of the connection, though not for long.

        Leaving the block does it, with 1000. What was received and not asked for is dropped.

        Raises:
            UsageError: a code or a reason that cannot be sent, or it is called by a function that
                `connect` was given to ask before an attempt.
        """
        goodbye = check_close(code, reason)
        task = self._task
        if task is None:
            return
        if task is asyncio.current_task():
            raise UsageError("A function that is asked before an attempt cannot close the socket.")
        if not self._is_over:
            self._goodbye = goodbye
            self._finish(None, *goodbye)
            task.cancel()
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.abort()
            await asyncio.wait((task,))
            raise

    # What is known of it.

    @property
    def state(self) -> State:
        """`connecting`, `open`, `waiting` (for the next attempt) or `closed` (for good)."""
        return self._state

    @property
    def positions(self) -> dict[Room, str]:
        """How far the messages have been handled, for each room with a history.

        A message counts as handled when the next one is asked for, and the last one when the block
        is left without an error. Give this to `connect(positions=…)` to go on in another process.
        """
        return self._inbox.resumption.handled

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server has chosen; `None` if it has not, or nobody is there."""
        return None if self._connection is None else self._connection.subprotocol

    async def wait_open(self) -> None:
        """Wait until there is a connection.

        Raises:
            Disconnected: there will be none, as the server has ended it for good.
            NotConnected: there will be none, as it was closed here.
        """
        while self._writable() is None:
            self._check()
            if self._connection is not None and not self._connection.is_open:
                # It may wait for the end of what is read no further, as the inbox is full.
                self._connection.abort()
            self._opened.clear()
            await self._opened.wait()

    # Messages.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ClientMessage:
        """The next message. Cancelling it loses none."""
        message = await self._inbox.next()
        if message is not None:
            return message
        error = self._error
        if error is None or (isinstance(error, Disconnected) and error.code == NORMAL_CLOSURE):
            raise StopAsyncIteration
        raise error.with_traceback(None)

    async def send_text(self, text: str) -> None:
        """Send text. Returns when it has left; whether it arrives is not known.

        It is never sent again. With `connect(buffer=…)` it waits while there is no connection.

        Raises:
            NotConnected: there is no connection, or there was none before the limits of the buffer
                were reached. If its `uncertain` is true, the connection was lost meanwhile.
            Disconnected: there is no connection any more, as the server has ended it for good.
        """
        if not isinstance(text, str):
            raise TypeError(f"send_text sends a str, not {type(text).__name__}.")
        await self._send(text)

    async def send_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, as `send_text` does text."""
        await self._send(bytes(data))

    async def send_json(self, value: Any) -> None:
        """Send a value as JSON in text, as `send_text` does.

        Raises also `TypeError` or `ValueError` for what has no JSON form.
        """
        await self._send(self._options.json.dumps(value).decode())

    async def _send(self, data: str | bytes) -> None:
        self._check()
        await self._sending.send(data)

    def _writable(self) -> Connection | None:
        """The connection, if what is sent now is written."""
        connection = self._connection
        is_open = self._state == "open" and connection is not None and connection.is_open
        return connection if is_open else None

    async def _write(self, connection: Connection, data: str | bytes) -> None:
        from fastapi_rooms.client.connection import Ended

        try:
            await connection.send(client_frames.escape(data) if self._is_framed else data)
        except Ended:
            raise NotConnected(
                "the connection was lost while this was being sent", uncertain=True
            ) from None

    def _check(self) -> None:
        """Raise why there will be no connection any more."""
        if self._is_over:
            raise (self._error or NotConnected("it was closed")).with_traceback(None)

    # The task.

    async def _run(self) -> None:
        try:
            while True:
                loss = await self._connect_once()
                end = loss.end
                delay = self._reconnection.lost(end.code, loss.window, at_once=loss.at_once)
                if end.is_final or delay is None:
                    error = Disconnected(end.code, end.reason, end.status)
                    self._finish(error, end.code, end.reason)
                    return
                level = logging.WARNING if self._is_first_failure() else logging.INFO
                logger.log(
                    level,
                    "A client has no connection (%d %s), and tries again in %.1f s.",
                    end.code,
                    printable(end.reason),
                    delay,
                )
                self._become("waiting", end.code, end.reason, delay)
                await asyncio.sleep(delay)
        except ConfigurationError as invalid:
            self._finish(invalid, ABNORMAL_CLOSURE, str(invalid))
        except Exception as bug:
            logger.exception("A client failed")
            self._finish(bug, ABNORMAL_CLOSURE, str(bug))
        finally:
            self._finish(NotConnected("its task was cancelled"), ABNORMAL_CLOSURE, "cancelled")

    def _is_first_failure(self) -> bool:
        """Whether nobody was there, for the first time since somebody was."""
        had_failed, self._has_failed = self._has_failed, self._state != "open"
        return self._has_failed and not had_failed

    async def _connect_once(self) -> _Loss:
        """One attempt, and the connection that comes of it, from its beginning to its end."""
        from fastapi_rooms.client.connection import End, Ended

        self._become("connecting")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await self._open()
        except TimeoutError:
            return _Loss(End(ABNORMAL_CLOSURE, "no answer"))
        except Ended as ended:
            return _Loss(ended.end)
        self._connection = connection
        try:
            return await self._serve(connection)
        except asyncio.CancelledError:
            await connection.close(*self._goodbye)
            raise
        finally:
            if self._lasted is not None:
                self._lasted.cancel()
            connection.abort()
            self._connection = None

    async def _open(self) -> Connection:
        from fastapi_rooms.client.connection import End, Ended, open_connection

        options, refresh = self._options, self._reconnection.refresh
        try:
            url, token = await ask(options.url, refresh), await ask(options.token, refresh)
            headers = await ask(options.headers, refresh)
        except Exception as error:
            logger.exception("What a client asks before it connects has failed; it tries again")
            raise Ended(End(ABNORMAL_CLOSURE, type(error).__name__)) from error
        return await open_connection(url_with(url, token), headers, options.websocket)

    async def _serve(self, connection: Connection) -> _Loss:
        from fastapi_rooms.client.connection import End, Ended

        hello: Hello | None = None
        silence: Silence | None = None
        try:
            hello = await self._begin(connection)
            seconds = None if hello is None else hello.heartbeat + SILENCE
            silence = Silence(seconds, connection.abort)
            await self._read(connection, silence)
        except Ended as ended:
            if silence is not None and silence.is_over and ended.end.code == ABNORMAL_CLOSURE:
                return _Loss(End(ABNORMAL_CLOSURE, "silence"), at_once=True)
            return _Loss(ended.end, None if hello is None else hello.window)
        except TimeoutError:  # it does not even take the answer to its hello
            return _Loss(End(ABNORMAL_CLOSURE, "no answer"))
        finally:
            if silence is not None:
                silence.stop()

    async def _read(self, connection: Connection, silence: Silence) -> NoReturn:
        has_ended = False
        while True:
            if self._inbox.is_full and not has_ended:
                silence.is_listening = False
                has_ended = await self._inbox.wait_for_space(connection)
                silence.is_listening = True
            frame = await connection.receive()
            silence.heard()
            self._inbox.receive(frame, is_framed=self._is_framed)

    async def _begin(self, connection: Connection) -> Hello | None:
        """Wait for hello, though not for long, and answer it."""
        self._is_framed = False
        frame = None if self._is_plain else await _soon(connection.receive)
        if frame is None:  # as a rule it says none
            self._is_plain = True
            self._become_open()
            frame = await connection.receive()
        hello = client_frames.parse_hello(frame)
        self._is_plain = hello is None
        if hello is None:
            self._become_open()
            self._inbox.receive(frame, is_framed=False)
            return None
        resumption = self._inbox.resumption
        resumption.token = resumption.token or hello.token
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await connection.send(client_frames.resume(resumption.token, resumption.received))
        self._is_framed = True
        self._become_open()
        return hello

    # States.

    def _become_open(self) -> None:
        if self._state != "open":
            self._has_been_open = True
            loop = asyncio.get_running_loop()
            self._lasted = loop.call_later(LASTED, self._reconnection.lasted)
            self._become("open")
            self._opened.set()

    def _finish(self, error: Exception | None, code: int, reason: str) -> None:
        if not self._is_over:
            self._become("closed", code, reason)
            self._is_over = True
            self._error = error
            self._opened.set()
            self._inbox.end(is_closed=error is None)

    def _become(
        self, state: State, code: int | None = None, reason: str = "", delay: float | None = None
    ) -> None:
        self._state = state
        if self._options.on_state is not None:
            try:
                self._options.on_state(StateChange(state, code, reason, delay))
            except Exception:
                logger.exception("A client's on_state failed")


async def _soon(receive: Callable[[], Awaitable[str | bytes]]) -> str | bytes | None:
    try:
        async with asyncio.timeout(HELLO_TIMEOUT):
            return await receive()
    except TimeoutError:
        return None
