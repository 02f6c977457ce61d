"""Names: which ones are valid, how sids are generated, and which channel carries a room's messages.

One pure function, `Channels.of_room`, maps a room to its channel. Senders publish to it, and
workers with a member of the room subscribe to it, so the two cannot disagree.

A generated sid starts with the node id of its worker. All sids of a worker have one channel, which
stays subscribed from start to close, so new connections cost no Redis command, although each socket
is in a room of its own. A sid that the application chose is a room like any other.

Clients may choose the names of rooms, and such a name can look like another worker's sid. The
worker that has a member of it subscribes to the channel of that worker's sids: correct, at the
price of some traffic. What workers ask each other has a channel of its own for each worker, which
no room leads to: who receives there answers, and counts as alive.

Names come in as any `str`, a member of a `(str, Enum)` too, and are plain strings from here on: the
text of such a member is "Class.MEMBER" in an f-string, and its value everywhere else.
"""

from __future__ import annotations

import secrets
from enum import Enum
from typing import TypeVar

from fastapi_rooms.errors import ConfigurationError, InvalidNamespace, InvalidRoomName, UsageError
from fastapi_rooms.types import Channel, NodeId, Room, Sid

E = TypeVar("E", bound=UsageError)

MAX_NAME_BYTES = 255
_NODE_DIGITS = 16
_HEX = frozenset("0123456789abcdef")
_SID_LENGTH = _NODE_DIGITS + 1 + 16


def new_node_id() -> NodeId:
    """Generate the id of a worker that starts."""
    return secrets.token_hex(_NODE_DIGITS // 2)


def new_sid(node: NodeId) -> Sid:
    """Generate a sid: the node id, a dot, and 96 random bits, as sids must not be guessable."""
    return f"{node}.{secrets.token_urlsafe(12)}"


def node_of(name: Room) -> NodeId | None:
    """The node id in `name`, if it has the form of a generated sid."""
    if len(name) != _SID_LENGTH or name[_NODE_DIGITS] != ".":
        return None
    node = name[:_NODE_DIGITS]
    return node if _HEX.issuperset(node) else None


def plain(text: str) -> str:
    """A string as a `str` itself, whatever its class makes of `str(text)`."""
    return text if type(text) is str else str.__str__(text)


def check_room(name: Room) -> Room:
    """Return `name` as a plain string, or raise `InvalidRoomName`."""
    return check_rooms((name,))[0]


def check_user(user: str) -> str:
    """Return a user, who can be called what a room can, or raise `InvalidRoomName`."""
    return _check_room(user, "user")


def check_is_text(name: object) -> str:
    """Return `name` as a plain string, valid or not, or raise `InvalidRoomName` if it is none."""
    if isinstance(name, str):
        return plain(name)
    raise InvalidRoomName(f"A room name must be {_RULE}; {_what_it_is(name)}.")


def check_rooms(names: tuple[Room, ...]) -> tuple[Room, ...]:
    """Return `names` as plain strings, or raise `InvalidRoomName` for the first invalid one."""
    for name in names:
        if not (
            type(name) is str
            and 0 < len(name) <= MAX_NAME_BYTES
            # Without encoding it, as nearly every name is short and ASCII.
            and (name.isascii() or _problem(name) is None)
        ):
            return tuple([_check_room(name) for name in names])
    return names


def _check_room(name: Room, what: str = "room name") -> Room:
    problem = _problem(name)
    if problem:
        raise _about(name, InvalidRoomName(f"A {what} must be {_RULE}; {problem}."))
    return plain(name)


def check_namespace(name: str) -> str:
    """Return `name` with its leading slash, or raise `InvalidNamespace`."""
    problem = _problem(name)
    if not problem:
        name = plain(name)
        if not name.startswith("/"):
            name = "/" + name
            problem = _problem(name)
    if not problem and "#" in name:
        problem = f"{name!r} contains '#', which separates the parts of a channel name"
    if problem:
        raise _about(
            name, InvalidNamespace(f"A namespace must be {_RULE}, without '#'; {problem}.")
        )
    return name


def check_prefix(prefix: str) -> str:
    """Return `prefix` as a plain string, or raise `ConfigurationError`."""
    problem = _problem(prefix)
    if not problem and "#" in prefix:
        problem = f"{prefix!r} contains '#'"
    if problem:
        raise ConfigurationError(f"A prefix must be {_RULE}, without '#'; {problem}.")
    return plain(prefix)


def check_sharded_prefix(prefix: str) -> str:
    """The same, for carriers that place what they carry by the part of its name in braces.

    A brace in the prefix comes before that around the room. It has to close, around something.
    """
    prefix = check_prefix(prefix)
    _, brace, rest = prefix.partition("{")
    if (brace and not rest.partition("}")[1]) or rest.startswith("}"):
        raise ConfigurationError(
            f"With the prefix {prefix!r} the messages of a room and its channel would be at "
            "different nodes of a Redis Cluster: close its first brace, around at least one "
            'character, as in "{shop}", or leave braces out.'
        )
    return prefix


def check_event(event: object) -> str:
    """Return the name of a server-side event, or raise `UsageError` if it is not a string."""
    if not isinstance(event, str):
        raise UsageError(f"A server-side event is named by a string; {_what_it_is(event)}.")
    return plain(event)


_RULE = f"a string of 1 to {MAX_NAME_BYTES} UTF-8 bytes"


def _problem(name: object) -> str | None:
    if not isinstance(name, str):
        return _what_it_is(name)
    if not name:
        return "this one is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return f"{name!r} contains a lone surrogate"
    return None if size <= MAX_NAME_BYTES else f"{name[:20]!r}… has {size} bytes"


def _about(name: object, error: E) -> E:
    """The error, which says what text it is about, if it is about one."""
    error.text = plain(name) if isinstance(name, str) else None
    return error


def _what_it_is(name: object) -> str:
    if isinstance(name, Enum) and isinstance(name.value, str):
        return f"{name} is none, but its value is: give {name}.value, or derive it from StrEnum"
    return f"{name!r} is of type {type(name).__name__}"


class Channels:
    """The channel names of one prefix.

    `{prefix}#{namespace}#` carries messages to a whole namespace or to several rooms,
    `{prefix}#{namespace}#{room}#` those to one room, `{prefix}#{node}.#` those to the sids of one
    worker, `{prefix}#{node}#` requests and replies to it, and `{prefix}#workers#` those to all
    workers. They cannot collide, whatever a room is called: a
    namespace starts with a slash and contains no `#`, and a node id is hexadecimal. Adapters have
    channels of their own for probes and failovers, which look like none of these.

    Where channels are in shards there are braces, to be taken literally, around a room's namespace
    and name. They decide on the shard, and stand around the same in the names of what is kept of
    the room: so its messages are kept where they are published.

    Args:
        prefix: the first part of every channel.
        sharded: whether the carrier has shards.

    Raises:
        ConfigurationError: the prefix cannot be one.
    """

    def __init__(self, prefix: str, *, sharded: bool = False) -> None:
        self.prefix = check_sharded_prefix(prefix) if sharded else check_prefix(prefix)
        self._before, self._after = ("{", "}#") if sharded else ("", "#")

    def of_namespace(self, namespace: str) -> Channel:
        """Carries messages to the whole namespace, or to several of its rooms."""
        return f"{self.prefix}#{namespace}#".encode()

    def of_node(self, node: NodeId) -> Channel:
        """Carries what is asked of one worker, and answered to it."""
        return f"{self.prefix}#{node}#".encode()

    def of_sids(self, node: NodeId) -> Channel:
        """Carries messages to the sockets of one worker, by their generated sids."""
        return f"{self.prefix}#{node}.#".encode()

    def of_workers(self) -> Channel:
        """Carries messages to every worker."""
        return f"{self.prefix}#workers#".encode()

    def of_target(self, namespace: str, rooms: tuple[Room, ...] | None) -> Channel:
        """Carries messages to these rooms, or to the whole namespace (`None`)."""
        if rooms is not None and len(rooms) == 1:
            return self.of_room(namespace, rooms[0])
        return self.of_namespace(namespace)

    def of_room(self, namespace: str, room: Room) -> Channel:
        """Carries messages to one room, or to one socket by its sid."""
        node = node_of(room)
        if node is not None:
            return self.of_sids(node)
        return f"{self.prefix}#{self._before}{namespace}#{room}{self._after}".encode()
