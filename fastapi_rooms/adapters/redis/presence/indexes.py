"""The sets that lead to a room: the rooms of a worker, of a user, of a socket.

The set of a worker is of the room's slot, and changes in one step with it. The others may be at
other nodes. So they are removed apart from the room, and it is looked at once more, as others may
have changed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from fastapi_rooms.adapters.presence import Lease
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence.keys import (
    TTL,
    namespace_of,
    socket_key,
    user_key,
    worker_key,
)
from fastapi_rooms.adapters.redis.presence.reader import Part, RoomsReader
from fastapi_rooms.core.presence import is_chosen
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid

KEPT = b"%d" % TTL

LOOKS = 10
"""How often a set is made right that others change at the same time."""


class Lead(NamedTuple):
    """A set that leads to a room."""

    key: bytes
    room: bytes
    """The name of the room."""
    field: bytes
    """What the room has if it is rightly there."""


class RoomIndexes(RoomsReader):
    """Keeps the sets that lead to rooms. Subclasses say whom to ask, by `_ask`."""

    def _index(self, lease: Lease, room: bytes) -> bytes:  # noqa: ARG002 -- of one node there is one
        """The key of the set by which a worker's room is found."""
        return worker_key(self._prefix, lease)

    async def _indexes(self, lease: Lease) -> Sequence[bytes]:
        """The keys of the sets by which all rooms of a worker are found."""
        return [worker_key(self._prefix, lease)]

    def _users(self, room: bytes, users: Iterable[str]) -> list[Lead]:
        """What leads from users to a room."""
        prefix, namespace = self._prefix, namespace_of(room)
        encoded = [user.encode() for user in users]
        return [Lead(user_key(prefix, namespace, it), room, b"u%b" % it) for it in encoded]

    def _sockets(self, room: bytes, lease: Lease, sids: Iterable[Sid]) -> list[Lead]:
        """What leads from sockets of a worker to a room."""
        prefix, node, namespace = self._prefix, lease.node, namespace_of(room)
        return [
            Lead(
                socket_key(prefix, namespace, sid.encode()),
                room,
                (f"={sid}" if is_chosen(sid, node) else f"s{node}{sid}").encode(),
            )
            for sid in sids
        ]

    async def _unindex(self, leads: Collection[Lead]) -> None:
        """Remove rooms from sets, unless they have what they are looked for.

        A set is right when the room was looked at after it was written, and agreed. Whoever is put
        back may have left meanwhile: who made that event may have removed them before.

        What cannot be removed now is removed by who reads it, or expires: the change is made, and
        its events are to be told.
        """
        with suppress(AdapterUnavailable):
            for _ in range(LOOKS):
                if leads:
                    removing = [removed(lead.key, lead.room) for lead in leads]
                    leads = await self._found(leads, removing, is_there=True)
                if leads:
                    adding = [added(lead.key, lead.room) for lead in leads]
                    leads = await self._found(leads, adding, is_there=False)

    async def _found(
        self, leads: Collection[Lead], first: Sequence[Part], *, is_there: bool
    ) -> list[Lead]:
        """Those that rightly lead to their rooms, or do not, when something has been done first."""
        looks = [self._look_for(lead.room, lead.field) for lead in leads]
        answers = (await self._ask(first, looks))[len(first) :]
        return [lead for lead, (found,) in zip(leads, answers, strict=True) if found == is_there]


def added(key: bytes, room: bytes) -> Part:
    """Add a room to a set."""
    return Part(key, pack(b"SADD", key, room) + pack(b"PEXPIRE", key, KEPT), 2)


def removed(key: bytes, room: bytes) -> Part:
    """Remove a room from a set."""
    return Part(key, pack(b"SREM", key, room), 1)
