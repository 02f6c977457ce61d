"""The sets that lead to a room: the rooms of a worker, of a user, of a socket.

They are other keys than the room, in a cluster at other nodes. So they are written and removed
apart from it, and the room is looked at once more where others may have changed it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from fastapi_rooms.adapters.history import RoomKey
from fastapi_rooms.adapters.presence import Lease
from fastapi_rooms.adapters.redis.links.link import pack
from fastapi_rooms.adapters.redis.presence.keys import (
    TTL,
    keys_of,
    namespace_of,
    socket_key,
    user_key,
)
from fastapi_rooms.adapters.redis.presence.reader import Part, RoomsReader
from fastapi_rooms.core.presence import is_chosen
from fastapi_rooms.errors import AdapterUnavailable
from fastapi_rooms.types import Sid

KEPT = b"%d" % TTL

LOOKS = 10
"""How often a set is made right that others change at the same time."""


class RoomIndexes(RoomsReader):
    """Keeps the sets that lead to rooms. Subclasses say whom to ask, by `_ask`."""

    def _left(self, room: RoomKey, lease: Lease, sids: Iterable[Sid]) -> list[Part]:
        """Remove a room from those of sockets that no other worker can have."""
        own = (sid for sid in sids if not is_chosen(sid, lease.node))
        return self._removed([key for key, _ in self._sockets(room, lease, own)], room.name)

    def _users(self, room: RoomKey, users: Iterable[str]) -> dict[bytes, bytes]:
        """The keys of users, and which fields a room has of them."""
        prefix, namespace = self._prefix, namespace_of(room.name)
        encoded = (user.encode() for user in users)
        return {user_key(prefix, namespace, user): b"u%b" % user for user in encoded}

    def _sockets(
        self, room: RoomKey, lease: Lease, sids: Iterable[Sid]
    ) -> Iterator[tuple[bytes, bytes]]:
        """The keys of sockets, and which fields a room has of them."""
        node, namespace = lease.node, namespace_of(room.name)
        for sid in sids:
            field = f"={sid}" if is_chosen(sid, node) else f"s{node}{sid}"
            yield socket_key(self._prefix, namespace, sid.encode()), field.encode()

    async def _unindex(
        self, room: RoomKey, checked: Mapping[bytes, bytes], over: Sequence[Part] = ()
    ) -> None:
        """Remove a room from sets, unless it has the field which stands beside each.

        A set is right when the room was looked at after it was written, and agreed. Whoever is put
        back may have left meanwhile: who made that event may have removed them before.

        What cannot be removed now is removed by who reads it, or expires: the change is made, and
        its events are to be told.

        Args:
            room: what is not to be there any more.
            checked: the keys of sets, and fields of the room.
            over: what else is to be done.
        """
        with suppress(AdapterUnavailable):
            if over and not checked:
                await self._ask(over)
            for _ in range(LOOKS):
                if not checked:
                    return
                removing = [*over, *self._removed([*checked], room.name)]
                checked = await self._found(room, checked, removing, is_there=True)
                over = ()
                if checked:
                    adding = self._added([*checked], room.name)
                    checked = await self._found(room, checked, adding, is_there=False)

    async def _found(
        self,
        room: RoomKey,
        checked: Mapping[bytes, bytes],
        first: Sequence[Part],
        *,
        is_there: bool,
    ) -> dict[bytes, bytes]:
        """Those whose field the room has, or has not, when something else has been done first."""
        truth = keys_of(self._prefix, room.name).truth
        look = b"".join(pack(b"HEXISTS", truth, field) for field in checked.values())
        *_, answers = await self._ask(first, [Part(truth, look, len(checked))])
        found = zip(checked.items(), answers, strict=True)
        return {key: field for (key, field), answer in found if answer == int(is_there)}

    def _added(self, keys: Sequence[bytes], name: bytes) -> list[Part]:
        """Add a room to sets."""
        return [added(key, name) for key in keys]

    def _removed(self, keys: Sequence[bytes], name: bytes) -> list[Part]:
        """Remove a room from sets."""
        return [removed(key, name) for key in keys]


def added(key: bytes, name: bytes) -> Part:
    """Add a room to a set."""
    return Part(key, pack(b"SADD", key, name) + pack(b"PEXPIRE", key, KEPT), 2)


def removed(key: bytes, name: bytes) -> Part:
    """Remove a room from a set."""
    return Part(key, pack(b"SREM", key, name), 1)
