"""A WebSocket client without a network: it and the application share one event loop.

Starlette's `TestClient` runs the application in another thread and waits for a message for ever.
This one is asyncio throughout, so several clients and managers meet in one test, waiting has a
limit, and a client can be made to stop reading, which is when servers get into trouble.

It behaves as uvicorn does where that matters: `send` returns without a pause while the client
reads, is held up while it does not, and raises `OSError` once it is gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import orjson
from starlette.types import ASGIApp, Message
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms.testing.waiting import TIMEOUT

NORMAL_CLOSURE, ABNORMAL_CLOSURE = 1000, 1006


class Rejected(Exception):
    """The application turned the client away before it accepted the connection."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"The handshake was answered with HTTP status {status}: {body!r}")
        self.status = status
        self.body = body


class _ClientGone(OSError):
    """What `send` raises; an endpoint that lets it pass has ended in order, as under uvicorn."""


class WebSocketClient:
    """A client of an ASGI application, connected for the time of an `async with` block.

        async with WebSocketClient(app, "/chat/lobby?name=ann") as client:
            await client.send_text("hello")
            assert await client.receive_text() == "hello yourself"

    The application's lifespan is not run: start its manager with `async with rooms:`, or take
    the manager from a `Cluster`.

    Args:
        app: any ASGI application.
        path: where to connect; a query string may follow.
        headers: the handshake's headers.
        subprotocols: those the client offers.
        state: what the application finds in `websocket.state`, as a lifespan would provide it.
    """

    def __init__(
        self,
        app: ASGIApp,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: Iterable[str] = (),
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._app = app
        self._scope = _scope(path, headers or {}, list(subprotocols), dict(state or {}))
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox: deque[str | bytes] = deque()
        self._changed = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self._task: asyncio.Task[None] | None = None
        self._denied_with = 500
        self._rejection: Rejected | None = None
        self._gone = False
        self._failure_told = False
        self.accepted = False
        """Whether the application has accepted the connection."""
        self.subprotocol: str | None = None
        """The one the application chose."""
        self.headers: list[tuple[bytes, bytes]] = []
        """The headers it accepted with."""
        self.close_code: int | None = None
        """The code the connection was closed with, by either side; `None` while it is open."""
        self.close_reason = ""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self, timeout: float = TIMEOUT) -> None:
        """Connect, and return when the application has accepted.

        Raises:
            Rejected: it did not.
            TimeoutError: it did neither in time.
        """
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run(), name=f"endpoint of {self}")
        try:
            await self._until(lambda: self.accepted, timeout, "an accepted connection")
        except BaseException:
            await self._end(timeout)
            raise

    # The client's verbs.

    async def send_text(self, data: str) -> None:
        """Send text to the application."""
        self._to_app.put_nowait({"type": "websocket.receive", "text": data})

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes."""
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data})

    async def send_json(self, data: Any) -> None:
        """Send JSON, as text."""
        await self.send_text(orjson.dumps(data).decode())

    async def receive(self, timeout: float = TIMEOUT) -> str | bytes:
        """The oldest message not read yet.

        Raises:
            WebSocketDisconnect: the application has closed the connection.
            TimeoutError: none came in time.
            Exception: the endpoint raised it.
        """
        await self._until(lambda: bool(self._inbox), timeout, "a message")
        return self._inbox.popleft()

    async def receive_text(self, timeout: float = TIMEOUT) -> str:
        """The oldest message, which must be text."""
        message = await self.receive(timeout)
        assert isinstance(message, str), f"expected text, got {message!r}"
        return message

    async def receive_bytes(self, timeout: float = TIMEOUT) -> bytes:
        """The oldest message, which must be bytes."""
        message = await self.receive(timeout)
        assert isinstance(message, bytes), f"expected bytes, got {message!r}"
        return message

    async def receive_json(self, timeout: float = TIMEOUT) -> Any:
        """The oldest message, as JSON."""
        return orjson.loads(await self.receive(timeout))

    async def receive_until(self, last: str | bytes, timeout: float = TIMEOUT) -> list[str | bytes]:
        """Every message up to the first that equals `last`, without that one.

        To prove that something was *not* sent, send a last message the same way and look at what
        came before it; waiting for nothing to happen proves little and takes long.
        """
        before: list[str | bytes] = []
        async with asyncio.timeout(timeout):
            while (message := await self.receive(timeout)) != last:
                before.append(message)
        return before

    @property
    def unread(self) -> list[str | bytes]:
        """What has come and has not been read by the test."""
        return list(self._inbox)

    def stall(self) -> None:
        """Stop reading: the server's buffers are full, and `send` is held up from now on."""
        self._reading.clear()

    def resume(self) -> None:
        """Read on."""
        self._reading.set()

    async def wait_closed(self, timeout: float = TIMEOUT) -> int:
        """Wait until the application has closed the connection, and return the close code."""
        await self._until(lambda: self.close_code is not None, timeout, "the end of the connection")
        assert self.close_code is not None
        return self.close_code

    async def wait_ended(self, timeout: float = TIMEOUT) -> None:
        """Wait until the endpoint has returned; raise what it raised."""
        assert self._task is not None, "the client was never opened"
        done, _ = await asyncio.wait((self._task,), timeout=timeout)
        if not done:
            raise TimeoutError(f"The endpoint of {self} has not returned in {timeout} s")
        self._raise_failure()

    def leave(self, code: int = NORMAL_CLOSURE, reason: str = "") -> None:
        """Go, without waiting for the application to notice: 1006 is a lost connection."""
        if not self._gone:
            self._gone = True
            if self.close_code is None:
                self.close_code, self.close_reason = code, reason
                self._to_app.put_nowait(
                    {"type": "websocket.disconnect", "code": code, "reason": reason}
                )
        self._reading.set()

    async def close(
        self, code: int = NORMAL_CLOSURE, reason: str = "", timeout: float = TIMEOUT
    ) -> None:
        """Go, and wait for the endpoint to end.

        Raises:
            TimeoutError: it did not end, although its client is gone. It is cancelled.
            Exception: the endpoint raised it, and it has not been raised to the test yet.
        """
        self.leave(code, reason)
        await self._end(timeout)
        self._raise_failure()

    # The application's side.

    async def _run(self) -> None:
        with suppress(_ClientGone):
            await self._app(self._scope, self._to_app.get, self._sent_by_app)

    async def _sent_by_app(self, message: Message) -> None:
        await self._reading.wait()
        if self._gone:
            raise _ClientGone("the client is gone")
        kind = message["type"]
        if kind == "websocket.send":
            data = message.get("bytes")
            self._inbox.append(message["text"] if data is None else data)
        elif kind == "websocket.accept":
            self.accepted = True
            self.subprotocol = message.get("subprotocol")
            self.headers = list(message.get("headers", ()))
        elif kind == "websocket.close":
            if not self.accepted:
                self._deny(403)
            else:
                self._closed(message.get("code", NORMAL_CLOSURE), message.get("reason") or "")
        elif kind == "websocket.http.response.start":
            self._denied_with = message["status"]
        elif kind == "websocket.http.response.body" and not message.get("more_body"):
            self._deny(self._denied_with, message.get("body", b""))
        self._changed.set()

    def _closed(self, code: int, reason: str) -> None:
        self.close_code, self.close_reason = code, reason
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _deny(self, status: int, body: bytes = b"") -> None:
        self._rejection = Rejected(status, body)
        self._closed(ABNORMAL_CLOSURE, "")

    # Waiting.

    async def _until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        task = self._task
        assert task is not None, "the client was never opened"
        if condition():
            return
        task.add_done_callback(self._wake)
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    self._raise_end(task)
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{self} waited {timeout} s for {what}") from None
        finally:
            task.remove_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        self._changed.set()

    def _raise_end(self, task: asyncio.Task[None]) -> None:
        """Raise what makes further waiting useless, if anything does."""
        if self._rejection is not None:
            raise self._rejection
        if task.done():
            self._raise_failure()
            if self.close_code is None:
                self.close_code = NORMAL_CLOSURE if self.accepted else ABNORMAL_CLOSURE
        if self.close_code is not None:
            raise WebSocketDisconnect(self.close_code, self.close_reason)

    def _raise_failure(self) -> None:
        task = self._task
        if task is None or not task.done() or self._failure_told or task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            self._failure_told = True
            raise failure

    async def _end(self, timeout: float) -> None:
        task = self._task
        if task is None:
            return
        self.leave(ABNORMAL_CLOSURE)
        done, _ = await asyncio.wait((task,), timeout=timeout)
        if not done:
            task.cancel()
            await asyncio.wait((task,), timeout=timeout)
            raise TimeoutError(
                f"The endpoint of {self} went on for {timeout} s after its client had gone"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._scope['path']}>"


def _scope(
    path: str, headers: Mapping[str, str], subprotocols: list[str], state: dict[str, Any]
) -> dict[str, Any]:
    path, _, query = path.partition("?")
    named = {"host": "testserver", **{name.lower(): value for name, value in headers.items()}}
    if subprotocols:
        named["sec-websocket-protocol"] = ", ".join(subprotocols)
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in named.items()],
        "client": ("testclient", 50000),
        "server": ("testserver", 80),
        "subprotocols": subprotocols,
        "state": state,
        "extensions": {"websocket.http.response": {}},
    }
