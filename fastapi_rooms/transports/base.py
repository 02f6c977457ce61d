"""The contract between a `Socket` and the transport that connects it to its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message

from fastapi_rooms.core.compression import Deflate
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Outgoing, Payload


def ignore(*_: object) -> None:
    """Do nothing: replaces a callback once it must no longer be called.

    The owner of a callback often refers to the object that it gave the callback to. This breaks the
    reference cycle; otherwise only the garbage collector could free the two, and with them the
    server's connection.
    """


class Transport(Protocol):
    """Writes messages to one client, in order, under an outbox policy.

    It calls back, once each at most and in a later iteration of the event loop where it is called
    itself: `on_lost` when it finds that the connection is lost, and `on_overflow` when the policy
    is to close a client that does not read. Then it has dropped what was queued.

    A fan-out writes frames to `fd` itself, or calls `write` or `write_volatile`, which must neither
    block nor raise.
    """

    @property
    def name(self) -> str:
        """The kind of transport: `asgi` or `uvicorn`."""

    fd: int | None
    """The file descriptor of the client's TCP socket, if a frame may be written to it right now.

    `None` if not, and then `write` has to be called. A caller that could write a part of a frame
    only must pass the rest to `write` before anything else is written.
    """

    @property
    def deflate(self) -> Deflate | None:
        """How what the client is sent is compressed: which of a message's frames goes to `fd`.

        `None` if it is not, or not by this package.
        """

    @property
    def receive(self) -> Callable[[], Awaitable[Message]]:
        """Returns the client's next ASGI event: `websocket.receive`, or a faster equivalent.

        The faster one does not update `websocket.client_state`; its caller has to.
        """

    def intercept(self, text: str, answer: Callable[[], None]) -> bool:
        """Have `answer` called whenever the client sends this text, which is then not received.

        Returns false if this transport sees no message before it is received.
        """

    @property
    def policy(self) -> OutboxPolicy:
        """What happens when the client does not keep up."""

    def never_drop(self) -> None:
        """From now on, close the client with 1013 where its policy would drop a message."""

    @property
    def pending(self) -> int:
        """How many bytes the outbox counts, and the server is known to buffer for the client."""

    @property
    def dropped(self) -> int:
        """How many messages the policy dropped, and how many volatile ones were skipped."""

    def write(self, message: Outgoing, sent: int = 0) -> None:
        """Send or queue a message, after all earlier ones; the policy applies if it does not fit.

        `sent` is how many bytes of its frame were written to `fd` already.
        """

    def write_volatile(self, message: Outgoing) -> None:
        """Send a message, or skip it if earlier ones are still queued."""

    async def send(self, payload: Payload) -> None:
        """Send a message after all earlier ones; return when the server has accepted it.

        If it is cancelled while the message is queued, the message is not sent.
        Raises `WebSocketDisconnect` if the client is disconnected.
        """

    @property
    def is_flushed(self) -> bool:
        """Whether the server has accepted every message."""

    async def flush(self) -> bool:
        """Wait until the server has accepted every message; false if the client is disconnected."""

    async def drain(self, timeout: float) -> None:
        """Close with 1012 after all queued messages; abort the connection after `timeout` seconds.

        May return before the connection is closed.
        """

    def stop(self) -> None:
        """Drop what is queued, cancel the transport's task, and ignore all later messages."""

    def abort(self) -> bool:
        """Close the TCP connection without a close frame; false if the server cannot do that."""
