"""The channels of Socket.IO's Redis adapter, of one key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from fastapi_rooms.core.target import Target
from fastapi_rooms.types import Channel, NodeId, Room

_GLOB = frozenset("*?[]^-\\")
"""What Redis may take for part of a pattern."""


class Heard(NamedTuple):
    """What a channel is for."""

    kind: str
    """`broadcast`, `request` or `response`."""
    namespace: str


class Channels:
    """Names of channels, and what they are for.

    `K#N#` carries broadcasts to everyone or to several rooms, `K#N#room#` those to one room or
    socket, `K-request#N#` what is asked of every server, `K-response#N#` what is answered, and
    `K-response#N#uid#` what is answered to one.
    """

    def __init__(self, key: str, namespaces: Iterable[str]) -> None:
        self._key = key
        self._heard: dict[bytes, Heard] = {}
        for name in namespaces:
            self._heard[f"{key}#{name}#".encode()] = Heard("broadcast", name)
            self._heard[f"{key}-request#{name}#".encode()] = Heard("request", name)
            self._heard[f"{key}-response#{name}#".encode()] = Heard("response", name)

    def heard(self, channel: Channel) -> Heard | None:
        """What a channel is for; `None` for one of a namespace that is not listed."""
        end = channel.find(b"#", channel.find(b"#") + 1) + 1
        return self._heard.get(channel[:end])

    def of_target(self, namespace: str, target: Target) -> Channel:
        """Carries broadcasts to a target."""
        if target.rooms is not None and len(target.rooms) == 1:
            return self.of_room(namespace, target.rooms[0])
        return f"{self._key}#{namespace}#".encode()

    def of_room(self, namespace: str, room: Room) -> Channel:
        """Carries broadcasts to one room."""
        return f"{self._key}#{namespace}#{room}#".encode()

    def requests(self, namespace: str) -> Channel:
        """Carries what is asked of every server."""
        return f"{self._key}-request#{namespace}#".encode()

    def responses(self, namespace: str, uid: str | None = None) -> Channel:
        """Carries what is answered to everyone, or to one server."""
        own = "" if uid is None else f"{uid}#"
        return f"{self._key}-response#{namespace}#{own}".encode()

    def sids(self, namespace: str, node: NodeId) -> Channel:
        """The pattern of the channels of a worker's sids."""
        prefix = "".join(f"\\{c}" if c in _GLOB else c for c in f"{self._key}#{namespace}#{node}.")
        return f"{prefix}*".encode()
