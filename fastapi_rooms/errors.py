"""Every error this package raises, under one root, grouped by whose fault it is.

    RoomsError
    ├── UsageError                  the calling code
    │   ├── ConfigurationError        … put the manager together wrongly      (ValueError)
    │   ├── NotStarted                … used a manager that is not running    (RuntimeError)
    │   ├── InvalidRoomName           … a room or sid no room can have        (ValueError)
    │   ├── InvalidNamespace          … a namespace no namespace can have     (ValueError)
    │   ├── MessageTooLarge           … a message over the manager's limit    (ValueError)
    │   ├── SidInUse                  … a sid that another socket has here
    │   └── SocketClosed              … joined on behalf of a socket that left
    ├── ClientError                 the client at the other end
    │   ├── InvalidMessage            … sent what the endpoint cannot read    (ValueError)
    │   ├── JoinRefused               … asked for a room that is not for it
    │   ├── TooManyRooms              … would be in more rooms than a socket may be in
    │   └── RateLimited               … sends more than it may
    ├── ShuttingDown                this worker, which lets nobody in any more
    ├── ListenerOverflow            a listener that reads more slowly than its rooms talk
    ├── AdapterError                what carries messages between workers
    │   └── AdapterUnavailable        … did not take or confirm it in time
    ├── RequestError                other workers, asked for something
    │   ├── RequestTimeout            … did not all answer in time            (TimeoutError)
    │   └── RequestRefused            … would or could not do it
    └── MalformedEnvelope           bytes from another worker: dropped, counted, never raised to you

A client that goes away is no error of ours: that stays Starlette's `WebSocketDisconnect`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RoomsError(Exception):
    """The root of every error in this package."""


class UsageError(RoomsError):
    """The calling code asked for something that cannot be."""


class ConfigurationError(UsageError, ValueError):
    """The manager, an adapter or a policy was put together wrongly."""


class NotStarted(UsageError, RuntimeError):
    """The manager was used before it was started, or after it was closed."""

    def __init__(self) -> None:
        super().__init__(
            "This RoomManager is not running. Start it with the application: "
            "`app = FastAPI(lifespan=rooms.lifespan)`, or `async with rooms:` inside a lifespan "
            "of your own. In tests use `with TestClient(app) as client:`, which runs the lifespan. "
            "A mounted sub-application's own lifespan never runs: start the manager in the parent."
        )


class InvalidRoomName(UsageError, ValueError):
    """A room or sid is not a string of 1 to 255 UTF-8 bytes."""


class InvalidNamespace(UsageError, ValueError):
    """A namespace is not a string of 1 to 255 UTF-8 bytes without `#`."""


class MessageTooLarge(UsageError, ValueError):
    """A message is longer than the manager's `max_message_bytes`."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"This message has {size} bytes, the limit is {limit} "
            "(`max_message_bytes`). Nothing was sent."
        )
        self.size = size
        """How many bytes it has."""
        self.limit = limit
        """How many it may have."""


class SidInUse(UsageError):
    """A socket of this worker has the sid already that `connect(sid=…)` asks for."""


class SocketClosed(UsageError):
    """The socket has left its namespace: its `async with rooms.connect(…)` block is over."""


class ClientError(RoomsError):
    """The client did something its endpoint cannot go on with.

    When it leaves the `async with rooms.connect(…)` block, the socket is closed with `code`
    and the endpoint ends quietly: a client must not be able to fill the log with tracebacks.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code
        """The WebSocket close code that tells the client (RFC 6455, section 7.4.1)."""


class InvalidMessage(ClientError, ValueError):
    """The client sent text where bytes were expected, bytes for text (1003), or bad JSON (1007)."""


class JoinRefused(ClientError):
    """A handler of `rooms.authorize` did not let the socket into a room. Nothing was joined."""

    def __init__(self, room: str, message: str = "") -> None:
        super().__init__(message or f"not allowed to join {room[:80]!r}", code=1008)
        self.room = room
        """The room it may not join."""


class TooManyRooms(ClientError):
    """The socket would be in more rooms than `max_rooms_per_socket`. Nothing was joined."""

    def __init__(self, rooms: int, limit: int) -> None:
        super().__init__(
            f"This would make {rooms} rooms, the limit is {limit} (`max_rooms_per_socket`). "
            "Nothing was joined.",
            code=1008,
        )
        self.rooms = rooms
        """How many rooms it would be in, its own not counted."""
        self.limit = limit
        """In how many it may be."""


class RateLimited(ClientError):
    """The client sends messages, or bytes, faster than its `RateLimit` allows."""

    def __init__(self, message: str = "too many messages") -> None:
        super().__init__(message, code=1008)


class ShuttingDown(RoomsError):
    """This worker is leaving: nobody comes in, joins or starts to listen any more.

    When it leaves the `async with rooms.connect(…)` block, the socket is closed with 1012, "service
    restart", and the endpoint ends quietly: the client may well connect again, to another worker.
    """

    def __init__(self) -> None:
        super().__init__("This worker is shutting down. Nothing was joined.")


class ListenerOverflow(RoomsError):
    """A listener did not read in time, and what waited for it passed its outbox limit."""


class AdapterError(RoomsError):
    """Something between the workers failed."""


class AdapterUnavailable(AdapterError):
    """The adapter did not confirm a join, or did not accept a message, in the time it had.

    Local members have had the message all the same; the members on other workers may not.
    """


class RequestError(RoomsError):
    """Other workers were asked for something, and not all of them did it."""

    def __init__(
        self,
        message: str,
        partial: Any,
        refusals: Mapping[str, str],
        unsupported: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.partial = partial
        """What the other workers, and this one, have answered: as the call would return it."""
        self.refusals = dict(refusals)
        """By the id of each worker that would or could not, its reason."""
        self.unsupported = unsupported
        """The ids of those among them whose version has never heard of what they were asked."""


class RequestTimeout(RequestError, TimeoutError):
    """Some workers did not answer in time."""

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
        who = ", ".join(
            [*sorted(silent), *[f"{unidentified} not known by id"] * bool(unidentified)]
        )
        super().__init__(
            f"No answer to {verb!r} in {timeout:g} s from {who}; "
            "`partial` is what the others answered.",
            partial,
            refusals,
            unsupported,
        )
        self.silent = silent
        """The ids of the workers that did not answer."""
        self.unidentified = unidentified
        """How many more got the request, without having said yet who they are."""


class RequestRefused(RequestError):
    """Some workers answered that they would not or could not: `refusals` says why."""

    def __init__(
        self,
        verb: str,
        partial: Any,
        refusals: Mapping[str, str],
        unsupported: frozenset[str] = frozenset(),
    ) -> None:
        reasons = "; ".join(f"{node}: {reason}" for node, reason in refusals.items())
        super().__init__(f"{verb!r} was refused. {reasons}", partial, refusals, unsupported)


class MalformedEnvelope(RoomsError):
    """Bytes that are no envelope of a version this worker knows."""
