"""Names: which are valid, how a sid is made, and which channel a name's messages travel on.

Strategy: one pure function, `Channels.of_room`, says for every name which channel carries it.
Senders publish there and whoever has a member there subscribes, so the two can never disagree.

A sid made here carries the id of its worker, and the channel of such a name is that worker's own,
which the worker holds from start to close. So a thousand new connections ask Redis for nothing,
though each is in a room of its own. A worker that puts *its* sockets into a room named after a
sid of another worker subscribes to that other worker's channel: a little more traffic in a rare
case, and no special rule for it. A sid that the application chose is a room like any other.
"""

from __future__ import annotations

import secrets

from fastapi_rooms.errors import ConfigurationError, InvalidNamespace, InvalidRoomName, UsageError
from fastapi_rooms.types import Channel, NodeId, Room, Sid

MAX_NAME_BYTES = 255
_NODE_DIGITS = 16
_HEX = frozenset("0123456789abcdef")
_SID_LENGTH = _NODE_DIGITS + 1 + 16


def new_node_id() -> NodeId:
    """Draw the id of a worker that starts."""
    return secrets.token_hex(_NODE_DIGITS // 2)


def new_sid(node: NodeId) -> Sid:
    """Draw a sid: the worker's id, a dot, and 96 random bits that nobody can guess."""
    return f"{node}.{secrets.token_urlsafe(12)}"


def node_of(name: Room) -> NodeId | None:
    """The worker whose id `name` carries, when it has the form of a sid made by `new_sid`."""
    if len(name) != _SID_LENGTH or name[_NODE_DIGITS] != ".":
        return None
    node = name[:_NODE_DIGITS]
    return node if _HEX.issuperset(node) else None


def check_room(name: Room) -> Room:
    """Return `name`, or raise `InvalidRoomName` and say what is wrong with it."""
    return check_rooms((name,))[0]


def check_rooms(names: tuple[Room, ...]) -> tuple[Room, ...]:
    """Check every name before anything is done with the first."""
    for name in names:
        problem = _problem(name)
        if problem:
            raise InvalidRoomName(f"A room name must be {_RULE}; {problem}.")
    return names


def check_namespace(name: str) -> str:
    """Return `name` with its leading slash, or raise `InvalidNamespace`."""
    problem = _problem(name)
    if not problem and not name.startswith("/"):
        name = "/" + name
        problem = _problem(name)
    if not problem and "#" in name:
        problem = f"{name!r} contains '#', which separates the parts of a channel"
    if problem:
        raise InvalidNamespace(f"A namespace must be {_RULE}, without '#'; {problem}.")
    return name


def check_event(event: object) -> str:
    """Return the name of a server-side event, or raise `UsageError` for what is no string."""
    if not isinstance(event, str):
        raise UsageError(
            f"A server-side event is named by a string; {event!r} is a {type(event).__name__}."
        )
    return event


_RULE = f"a string of 1 to {MAX_NAME_BYTES} UTF-8 bytes"


def _problem(name: object) -> str | None:
    if type(name) is str and 0 < len(name) <= MAX_NAME_BYTES and name.isascii():
        return None  # nearly every name there is
    if not isinstance(name, str):
        return f"{name!r} is a {type(name).__name__}"
    if not name:
        return "this one is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"{name!r} contains a lone surrogate"
    return None if size <= MAX_NAME_BYTES else f"{name[:20]!r}… has {size} bytes"


class Channels:
    """The channel names of one prefix.

    `{prefix}#{namespace}#` carries what is sent to everyone or to several rooms,
    `{prefix}#{namespace}#{room}#` what is sent to one room, `{prefix}#{node}#` what is sent to one
    worker, `{prefix}#workers#` what is sent to all of them. A namespace starts with a slash and has
    no `#`, a node id is hexadecimal: no two of them can be the same, whatever a room is called.
    """

    def __init__(self, prefix: str) -> None:
        problem = _problem(prefix)
        if not problem and "#" in prefix:
            problem = f"{prefix!r} contains '#'"
        if problem:
            raise ConfigurationError(f"A prefix must be {_RULE}, without '#'; {problem}.")
        self.prefix = prefix

    def of_namespace(self, namespace: str) -> Channel:
        """What is sent to everyone in the namespace, or to several of its rooms."""
        return f"{self.prefix}#{namespace}#".encode()

    def of_node(self, node: NodeId) -> Channel:
        """What is sent to one worker."""
        return f"{self.prefix}#{node}#".encode()

    def of_workers(self) -> Channel:
        """What is sent to every worker."""
        return f"{self.prefix}#workers#".encode()

    def of_target(self, namespace: str, rooms: tuple[Room, ...] | None) -> Channel:
        """What is sent to some rooms of a namespace, or to all of it (`None`)."""
        if rooms is not None and len(rooms) == 1:
            return self.of_room(namespace, rooms[0])
        return self.of_namespace(namespace)

    def of_room(self, namespace: str, room: Room) -> Channel:
        """What is sent to one room, or to one socket by its sid."""
        node = node_of(room)
        if node is not None:
            return self.of_node(node)
        return f"{self.prefix}#{namespace}#{room}#".encode()
