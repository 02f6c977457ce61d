"""What one worker can ask another one to do: the verbs of a `Request`."""

from __future__ import annotations

from enum import StrEnum


class Verb(StrEnum):
    """A verb. Its value is what is sent, so it must never change.

    A worker that does not know a verb answers with a reply that is `unsupported`.
    """

    FETCH = "fetch"
    """Return the sid, rooms and data of each addressed socket."""
    COUNT = "count"
    """Return how many sockets are addressed."""
    JOIN = "join"
    """Add the addressed sockets to rooms."""
    LEAVE = "leave"
    """Remove the addressed sockets from rooms."""
    DISCONNECT = "disconnect"
    """Disconnect the addressed sockets."""
    ROOMS = "rooms"
    """Return the names of rooms of a namespace: all, or `limit` at most, and without `sids`."""
    EMIT = "emit"
    """Call the handler of a server-side event."""
    FORGET = "forget"
    """Forget the messages of rooms with a history, as the carrier has."""
    DESCRIBE = "describe"
    """Return the version, host, uptime and so on of the worker; see `Worker`."""
