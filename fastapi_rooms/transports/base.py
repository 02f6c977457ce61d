"""The contract between a socket and what carries messages to its client, and from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from starlette.types import Message

from fastapi_rooms.core.payload import Outgoing, Payload


def ignore(*_: object) -> None:
    """Takes the place of a callback that nobody is to get any more.

    Whoever made a callback often refers to whom it was given to. As long as each has the other,
    both wait for the garbage collector, with the server's connection and all that hangs on it.
    """


class Transport(Protocol):
    """Writes messages to one client, in order, under an outbox policy.

    `write` and `write_volatile` neither wait nor raise, as a fan-out calls them, where it does not
    write to `fd`. A transport that gives its client up because it does not read says so once,
    through the callback it was made with, in a later turn of the event loop.
    """

    name: str
    """Which transport this is: `asgi` or `uvicorn`."""

    fd: int | None
    """The client's socket, while nothing is in the way of a frame; else `None`: `write` knows more.

    Whoever writes part of a message to it calls `write` for the rest, before anything else.
    """

    receive: Callable[[], Awaitable[Message]]
    """Gives the client's next ASGI event: `websocket.receive`, or a shorter way to the same.

    Whoever uses it sees to the `client_state` of the `WebSocket`.
    """

    @property
    def pending(self) -> int:
        """Bytes that wait for the client to read."""

    @property
    def dropped(self) -> int:
        """Messages the policy dropped, and volatile ones that were skipped."""

    def write(self, message: Outgoing, sent: int = 0) -> None:
        """Send, after all that was written before; the policy decides about what does not fit.

        `sent` is how many bytes of the message's frame were written to `fd` already.
        """

    def write_volatile(self, message: Outgoing) -> None:
        """Send, unless the client is behind."""

    async def send(self, payload: Payload) -> None:
        """Send, after all that was written before, and return when the server has taken it.

        Raises `WebSocketDisconnect` when the client is gone.
        """

    @property
    def is_flushed(self) -> bool:
        """Whether `flush` has nothing to wait for."""

    async def flush(self) -> bool:
        """Return true when all that was written is with the server; false if the client is gone."""

    async def drain(self, timeout: float) -> None:
        """Close with 1012, behind all that was written; cut the connection after so many seconds.

        May return before the connection is closed.
        """

    def stop(self) -> None:
        """Write nothing more and leave no task behind; what waits is dropped."""

    def abort(self) -> bool:
        """Cut the connection, without a farewell; false where the server gives no way to do it."""
