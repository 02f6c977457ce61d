"""Every error this package raises, under one root, grouped by who caused it.

    RoomsError
    ├── UsageError                  the calling code
    │   ├── ConfigurationError        … configured something invalidly        (ValueError)
    │   ├── NotStarted                … used a manager that is not running    (RuntimeError)
    │   ├── InvalidRoomName           … passed an invalid room name or sid    (ValueError)
    │   ├── InvalidNamespace          … passed an invalid namespace           (ValueError)
    │   ├── InvalidText               … sent text that no client could be sent (UnicodeEncodeError)
    │   ├── MessageTooLarge           … sent a message over the size limit    (ValueError)
    │   ├── SidInUse                  … chose a sid that is taken on this worker
    │   └── SocketClosed              … had a socket join after it has left
    ├── ClientError                 the client at the other end
    │   ├── InvalidMessage            … sent a message of the wrong kind      (ValueError)
    │   ├── JoinRefused               … may not join the room
    │   ├── TooManyRooms              … would exceed the limit of rooms per socket
    │   └── RateLimited               … sends faster than its rate limit
    ├── ShuttingDown                this worker: it is draining
    ├── ListenerOverflow            a listener that reads too slowly
    ├── AdapterError                the adapter, which connects the workers
    │   └── AdapterUnavailable        … did not confirm in time
    ├── RequestError                other workers, which were sent a request
    │   ├── RequestTimeout            … did not all answer in time            (TimeoutError)
    │   └── RequestRefused            … refused it, or failed to carry it out
    ├── Disconnected                the server of a client of ours: it ended the connection for good
    ├── NotConnected                a client of ours that has no connection now   (ConnectionError)
    └── MalformedEnvelope           undecodable bytes from another worker; never raised to you

A client that disconnects is not an error of this package: Starlette's `WebSocketDisconnect` is
raised, as without it. `Disconnected` and `NotConnected` are raised on the other side, by
`fastapi_rooms.client.connect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RoomsError(Exception):
    """The base class of every error in this package."""


class UsageError(RoomsError):
    """The calling code asked for something that is not possible.

    What it passed may come from a client: a room's name with too many bytes, a text with half of a
    surrogate pair. Such an error has that `text`. Raised out of the `async with rooms.connect(…)`
    block of a client it closes the socket with 4400 and is suppressed there, with one line in the
    log: a client must not be able to fill that with tracebacks.
    """

    text: str | None = None
    """The text that cannot be used; `None` where the error is not about a text."""


class ConfigurationError(UsageError, ValueError):
    """The manager, an adapter or a policy was given an invalid setting."""


class NotStarted(UsageError, RuntimeError):
    """The manager was used before it was started, or after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "This RoomManager is not running. Start it with the application: "
            "`app = FastAPI(lifespan=rooms.lifespan)`, or `async with rooms:` inside a lifespan "
            "of your own. In tests use `with TestClient(app) as client:`, which runs the lifespan; "
            "where a test runs a clone instead, the endpoint has to get it by `Depends(rooms)`. "
            "A mounted sub-application's own lifespan never runs: start the manager in the parent."
        )


class InvalidRoomName(UsageError, ValueError):
    """A room name or sid is not a string of 1 to 255 UTF-8 bytes.

    About a string it closes the client in whose block it is raised with 4400. About a sid that is
    given to `connect(sid=…)`, the client gets HTTP status 400 where the server can send one before
    it accepts the connection, else 4400.
    """


class InvalidNamespace(UsageError, ValueError):
    """A namespace is not a string of 1 to 255 UTF-8 bytes without `#`."""


class InvalidText(UsageError, UnicodeEncodeError):
    r"""A text has half of a surrogate pair, which UTF-8 has not. Nothing was sent.

    JSON can have it, as `"\ud800"`: `send_json` sends it as it came.
    """


class MessageTooLarge(UsageError, ValueError):
    """A message is larger than the manager's `max_message_bytes`. Nothing was sent.

    In a backend, one to a single client is also larger than what its edge takes, 64 MiB.

    Raised out of an `async with rooms.connect(…)` block it closes the socket with 1009 and is
    suppressed there, with one line in the log: the message may be what the client has sent.
    """

    def __init__(self, size: int, limit: int, which: str = "`max_message_bytes`") -> None:
        super().__init__(
            f"This message has {size} bytes; the limit is {limit} ({which}). Nothing was sent."
        )
        self.size = size
        """The size of the encoded message, in bytes."""
        self.limit = limit
        """The limit, in bytes."""


class SidInUse(UsageError):
    """The sid given to `connect(sid=…)` belongs to another socket of this worker.

    Unless the endpoint catches it, the client gets HTTP status 409 where the server can send one
    before it accepts the connection, else close code 4409; behind an edge always the latter.
    """


class SocketClosed(UsageError):
    """A socket was to join a room after it had left: disconnected, or its `connect` block over.

    Sending to such a socket raises Starlette's `WebSocketDisconnect`, as when its client is gone.
    """

    def __init__(self, message: str, socket: Any = None) -> None:
        super().__init__(message)
        self.socket = socket
        """The socket."""


class ClientError(RoomsError):
    """The client did something that its endpoint cannot handle.

    Raised out of the `async with rooms.connect(…)` block of that client, it closes the socket with
    `code` and is suppressed there: a client must not be able to fill the log with tracebacks. About
    another client it is an exception like any other.
    """

    def __init__(self, message: str, *, code: int, socket: Any = None) -> None:
        super().__init__(message)
        self.socket = socket
        """The `Socket` of the client; `None` for one that you raise, which is about the client in
        whose block it is raised."""
        self.code = code
        """The WebSocket close code that the client receives (RFC 6455, section 7.4.1)."""


class InvalidMessage(ClientError, ValueError):
    """The client sent text instead of bytes or bytes instead of text (1003), or bad JSON (1007)."""


class JoinRefused(ClientError):
    """A handler of `rooms.authorize` refused the join. No room was joined."""

    def __init__(self, room: str, message: str = "") -> None:
        super().__init__(message or f"not allowed to join {room[:80]!r}", code=1008)
        self.room = room
        """The room that the socket may not join."""


class TooManyRooms(ClientError):
    """The socket would be in more than `max_rooms_per_socket` rooms. No room was joined."""

    def __init__(self, rooms: int, limit: int) -> None:
        super().__init__(
            f"This join would put the socket in {rooms} rooms; the limit is {limit} "
            "(`max_rooms_per_socket`). Nothing was joined.",
            code=1008,
        )
        self.rooms = rooms
        """How many rooms the socket would be in, without the one named after its sid."""
        self.limit = limit
        """How many rooms it may be in."""


class RateLimited(ClientError):
    """The client sends more messages, or bytes, per second than its `RateLimit` allows.

    The close code is 4429, as 429 is HTTP's status for too many requests: a client may come back
    after a delay.
    """

    def __init__(self, message: str = "too many messages") -> None:
        super().__init__(message, code=4429)


class ShuttingDown(RoomsError):
    """This worker is draining: it accepts no new sockets, joins or listeners.

    Raised out of an `async with rooms.connect(…)` block of this manager, it closes the socket with
    1012 ("service restart") and is suppressed there. The client may reconnect at once, to another
    worker.
    """

    def __init__(self) -> None:
        super().__init__("This worker is shutting down. Nothing was joined.")
        self.manager: Any = None
        """The `RoomManager` that is draining."""


class ListenerOverflow(RoomsError):
    """A listener read too slowly: the messages queued for it exceeded its outbox limit.

    It ends the listener's own block quietly, with a line in the log. That also holds for an
    `asyncio.TaskGroup` within the block, if its tasks fail with nothing else.
    """

    def __init__(self, message: str, listener: Any) -> None:
        super().__init__(message)
        self.listener = listener
        """The `Listener` that this is about."""


class AdapterError(RoomsError):
    """The connection between the workers failed."""


class AdapterUnavailable(AdapterError):
    """The adapter did not confirm a join, or did not accept a message, within its timeout.

    The members on this worker still receive the message; those on other workers may miss it. In a
    room with a history nobody receives one that was not accepted: see `uncertain`.

    Raised out of an `async with rooms.connect(…)` block of its manager, it closes the socket with
    1013 ("try again later") and is suppressed there. That of another manager, or of an emitter, is
    an exception like any other.
    """

    def __init__(self, *args: Any, uncertain: bool = False) -> None:
        super().__init__(*args)
        self.manager: Any = None
        """The `RoomManager` whose adapter it is; `None` if it is an emitter's."""
        self.uncertain = uncertain
        """Whether a message to a recoverable room may be in its history, once, all the same: it was
        written and not answered. One that was not yet written is never sent."""


class RequestError(RoomsError):
    """A request was sent to other workers, and not all of them carried it out."""

    def __init__(
        self,
        message: str,
        partial: Any,
        refusals: Mapping[str, str],
        unsupported: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.partial = partial
        """What the call would have returned, made of the answers that came, this worker's too."""
        self.refusals = dict(refusals)
        """Why workers refused, or failed: node id → reason."""
        self.unsupported = unsupported
        """The node ids in `refusals` of workers whose version does not know the request."""


class RequestTimeout(RequestError, TimeoutError):
    """Some workers did not answer within the timeout."""

    def __init__(
        self,
        verb: str,
        timeout: float,
        silent: frozenset[str],
        partial: Any,
        refusals: Mapping[str, str],
        unidentified: int = 0,
        unsupported: frozenset[str] = frozenset(),
    ) -> None:
        who = ", ".join([*sorted(silent), *[f"{unidentified} unidentified"] * bool(unidentified)])
        super().__init__(
            f"No answer to {verb!r} within {timeout:g} s from {who}; "
            "`partial` holds what the other workers answered.",
            partial,
            refusals,
            unsupported,
        )
        self.silent = silent
        """The node ids of the workers that did not answer."""
        self.unidentified = unidentified
        """How many more received the request and have not announced their node id yet: workers, or
        Node servers of Socket.IO, which have none."""


class RequestRefused(RequestError):
    """Some workers refused the request, or failed to carry it out; `refusals` says why."""

    def __init__(
        self,
        verb: str,
        partial: Any,
        refusals: Mapping[str, str],
        unsupported: frozenset[str] = frozenset(),
    ) -> None:
        reasons = "; ".join(f"{node}: {reason}" for node, reason in refusals.items())
        super().__init__(f"{verb!r} was refused. {reasons}", partial, refusals, unsupported)


class Disconnected(RoomsError):
    """The server ended the connection of a `fastapi_rooms.client` for good, or refused it.

    The client does not come back by itself: it would end in the same way.
    """

    def __init__(self, code: int, reason: str = "", status: int | None = None) -> None:
        how = "closed the connection with" if status is None else "refused the connection with HTTP"
        super().__init__(f"The server {how} {status or code}" + (f": {reason}" if reason else "."))
        self.code = code
        """The close code; of an HTTP status from 400 on, 4000 and the status."""
        self.reason = reason
        """The close reason; of a refused connection, what the answer says of it."""
        self.status = status
        """The HTTP status with which the connection was refused; `None` if it was accepted."""


class NotConnected(RoomsError, ConnectionError):
    """A `fastapi_rooms.client` has no connection now, and does not keep what is to be sent."""

    def __init__(self, message: str = "not connected", *, uncertain: bool = False) -> None:
        super().__init__(message)
        self.uncertain = uncertain
        """Whether the message may have arrived all the same: the connection was lost while it was
        being sent. It is not sent again."""


class MalformedEnvelope(RoomsError):
    """Bytes that are not an envelope of a version this worker knows: dropped and counted."""
