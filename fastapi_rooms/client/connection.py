"""One connection, by the library `websockets`: nothing else here imports it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.http11 import Response
from websockets.protocol import State

from fastapi_rooms.core.close_codes import ABNORMAL_CLOSURE, shorten_reason
from fastapi_rooms.core.json_codec import DEFAULT_JSON
from fastapi_rooms.errors import ConfigurationError

CLOSE_TIMEOUT = 5.0
"""Seconds that the server has to answer a close frame."""

_PROTOCOL_ERROR = 1002


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended, or an attempt to connect."""

    code: int
    reason: str = ""
    status: int | None = None
    """The HTTP status with which it was refused."""
    is_final: bool = False
    """Whether it would end in the same way again, whatever the code says."""


class Ended(Exception):
    """The connection is over, or there was none."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


class Connection:
    """A connection that was accepted."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    @property
    def subprotocol(self) -> str | None:
        """The one that the server has chosen."""
        return self._websocket.subprotocol

    @property
    def is_open(self) -> bool:
        """Whether what is sent now is written."""
        return self._websocket.state is State.OPEN

    async def receive(self) -> str | bytes:
        """The next frame. Raises `Ended` when all that came have been received."""
        try:
            return await self._websocket.recv()
        except ConnectionClosed as closed:
            raise Ended(_end_of(closed)) from None

    async def send(self, data: str | bytes) -> None:
        """Write a frame, and wait while the other side does not read. Raises `Ended`."""
        try:
            await self._websocket.send(data)
        except ConnectionClosed as closed:
            raise Ended(_end_of(closed)) from None

    async def wait_ended(self) -> End:
        """Wait until it is over, whatever has not been received yet."""
        await self._websocket.wait_closed()
        return _end_of(self._websocket.protocol.close_exc)

    async def close(self, code: int, reason: str) -> None:
        """Close it; what comes meanwhile is dropped, as nobody is there for it any more."""
        dropping = asyncio.create_task(self._drop(), name="last messages of a client")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._websocket.close(code, reason)
        except TimeoutError:
            pass
        finally:
            self.abort()
            await _ended(dropping)

    def abort(self) -> None:
        """End it at once, without a word."""
        self._websocket.transport.abort()

    async def _drop(self) -> None:
        try:
            while True:
                await self._websocket.recv()
        except ConnectionClosed:
            pass


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a task that is about to end, even if it is this one that is cancelled."""
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()


async def open_connection(
    url: str, headers: Mapping[str, str] | None, options: Mapping[str, Any]
) -> Connection:
    """Connect. The time that it may take is the caller's to limit.

    Raises:
        Ended: there is no connection.
        ConfigurationError: there never will be, as an option is not valid.
    """
    try:
        websocket = await connect(
            url,
            additional_headers=headers,
            open_timeout=None,
            close_timeout=CLOSE_TIMEOUT,
            **options,
        )
    except InvalidStatus as error:
        raise Ended(_refusal(error.response)) from None
    except (InvalidMessage, ProxyError, OSError) as error:
        raise Ended(End(ABNORMAL_CLOSURE, str(error))) from error
    except InvalidHandshake as error:  # that is no WebSocket server
        raise Ended(End(_PROTOCOL_ERROR, str(error), is_final=True)) from error
    except InvalidURI:
        raise ConfigurationError("The URL of a client is not valid.") from None
    except InvalidProxy:  # it has the URL in it, perhaps with a password
        raise ConfigurationError("The proxy of a client is not valid.") from None
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigurationError(f"A client cannot connect with these options: {error}") from error
    return Connection(websocket)


def _end_of(closed: ConnectionClosed) -> End:
    """By the close frame that came first; the client's own says that it could not read on."""
    first = closed.rcvd if closed.rcvd_then_sent is not False else closed.sent
    close = first or closed.sent
    if close is None:
        return End(ABNORMAL_CLOSURE, str(closed.__cause__ or ""))
    return End(close.code, close.reason)


def _refusal(response: Response) -> End:
    status = response.status_code
    if not 400 <= status < 600:
        reason = f"HTTP status {status}: there is no WebSocket endpoint"
        return End(_PROTOCOL_ERROR, reason, status, is_final=True)
    return End(4000 + status, _detail(response), status)


def _detail(response: Response) -> str:
    """What FastAPI or Starlette says in the body of a refusal, or else what the status means."""
    body, detail = bytes(response.body or b""), None
    with suppress(LookupError, TypeError, ValueError):
        detail = DEFAULT_JSON.loads(body)["detail"]
    if not isinstance(detail, str):
        is_text = response.headers.get("Content-Type", "").startswith("text/plain")
        detail = body.decode(errors="replace").strip() if is_text else ""
    return shorten_reason(detail or response.reason_phrase)
