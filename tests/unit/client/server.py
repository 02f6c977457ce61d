"""A server in the test's hands: what it says on each connection, frame by frame."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

TOKEN = "0123456789abcdef" * 2


class Served:
    """The server's end of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.resumed: dict[str, Any] | None = None
        """What the resume frame said."""

    async def hello(self, **said: Any) -> dict[str, Any]:
        """Say hello; returns what the client resumes with."""
        hello = {"version": 1, "token": TOKEN, "heartbeat": 25, "answers": True, "window": 0}
        await self.send("\0h" + json.dumps({**hello, **said}))
        frame = await self.receive()
        assert isinstance(frame, str)
        assert frame.startswith("\0r")
        self.resumed = json.loads(frame[2:])
        assert self.resumed is not None
        return self.resumed

    async def joined(self, room: str, recovered: bool | None) -> None:
        await self.send("\0j" + json.dumps({"room": room, "recovered": recovered}))

    async def moved(self, room: str, position: str) -> None:
        await self.send("\0p" + json.dumps({"room": room, "position": position}))

    async def place(self, room: str, position: str, message: str | bytes) -> None:
        header = "\0m" + json.dumps({"room": room, "position": position}) + "\n"
        await self.send(header + message if isinstance(message, str) else header.encode() + message)

    async def send(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def receive(self) -> str | bytes:
        return await self.connection.recv()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def cut(self) -> None:
        """End it without a close frame."""
        self.connection.transport.abort()

    async def closed(self) -> int:
        """Wait for the client to close; its code, 1006 for none."""
        try:
            while True:
                await self.receive()
        except ConnectionClosed as closed:
            return 1006 if closed.rcvd is None else closed.rcvd.code


Script = Callable[[Served], Awaitable[None]]
Refusal = tuple[int, str]


class FakeServer:
    """Goes by one script after the other, for each connection; the last is for all that follow.

    Args:
        scripts: what to do with a connection; or a status and a body, to refuse it.
        tls: what it speaks TLS by.
    """

    def __init__(self, *scripts: Script | Refusal, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._server: Server | None = None
        self.requests: list[Request] = []
        """What the clients have asked for."""
        self.served: list[Served] = []
        """Those that were accepted."""
        self.failures: list[BaseException] = []
        self.port = 0

    @property
    def url(self) -> str:
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://127.0.0.1:{self.port}/chat?a=1"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()
        if self.failures and exc is None:
            raise self.failures[0]

    async def listen(self) -> None:
        """Be there, or there again."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            process_request=self._request,
            ping_interval=None,
            max_size=None,
            ssl=self._tls,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Be gone."""
        if self._server is not None:
            for served in self.served:
                served.cut()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        script = self._script
        if not isinstance(script, tuple):
            return None
        return connection.respond(HTTPStatus(script[0]), script[1])

    @property
    def _script(self) -> Script | Refusal:
        return self._scripts[min(len(self.requests), len(self._scripts)) - 1]

    async def _serve(self, connection: ServerConnection) -> None:
        script, served = self._script, Served(connection)
        assert not isinstance(script, tuple)
        self.served.append(served)
        try:
            await script(served)
        except (ConnectionClosed, asyncio.CancelledError):
            pass
        except Exception as failure:  # noqa: BLE001 -- raised in the test
            self.failures.append(failure)
