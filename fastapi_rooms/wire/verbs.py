"""What one worker can ask of another: the verbs of a request, as they are written on the wire."""

from __future__ import annotations

from enum import StrEnum


class Verb(StrEnum):
    """A verb, whose value is part of the wire contract.

    A worker that does not know a verb answers with the flag `unsupported`.
    """

    FETCH = "fetch"
    """The sid, rooms and data of each addressed socket."""
    COUNT = "count"
    """How many sockets are addressed."""
    JOIN = "join"
    """Put the addressed sockets into rooms."""
    LEAVE = "leave"
    """Take them out of rooms."""
    DISCONNECT = "disconnect"
    """Close them."""
    ROOMS = "rooms"
    """The names of all rooms of a namespace."""
    EMIT = "emit"
    """Call the handler of a server-side event."""
    DESCRIBE = "describe"
    """What there is to know of the worker itself."""
