"""What the tests of history's faults share: workers without a manager, and their messages."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi_rooms import RedisAdapter
from fastapi_rooms.adapters.history import Retention, RoomKey
from fastapi_rooms.core.position import Position
from fastapi_rooms.core.room_log import Stretch, after
from fastapi_rooms.testing import eventually
from fastapi_rooms.testing.suite.backplane import Station
from fastapi_rooms.wire.kept import InPlace, decode

ROOM = RoomKey(b"/#tea", b"rooms#/#tea#")
META, STREAM = "rooms:meta:{/#tea}", "rooms:stream:{/#tea}"
RETENTION = Retention(size=1000, ttl=60.0)

_tags = itertools.count(2**64 - 2**32)  # as long in decimal digits as tags get


class Worker(Station):
    """A worker's adapter, in the room."""

    adapter: RedisAdapter

    async def append(
        self, data: bytes, room: RoomKey = ROOM, retention: Retention = RETENTION
    ) -> Position:
        """Append one message."""
        return await self.adapter.append(room, data, next(_tags), retention)

    async def append_all(self, messages: Sequence[bytes]) -> list[Position]:
        """Append them one after the other."""
        return [await self.append(data) for data in messages]

    async def read(self, room: RoomKey = ROOM) -> Stretch[bytes]:
        """All that is kept."""
        return await self.adapter.read(room)

    async def kept(self) -> list[bytes]:
        """The messages alone."""
        return [message.item for message in (await self.read()).messages]

    async def missed_since(self, position: Position) -> list[bytes] | None:
        """What came after a position; `None` if that is no place any more."""
        missed = after(await self.adapter.read_since(ROOM, position), position)
        return None if missed is None else [message.item for message in missed]

    def heard_in_place(self) -> list[InPlace]:
        """What has come in the room."""
        return [decode(data) for data in self.heard(ROOM.channel)]

    async def hears(self, position: Position) -> list[bytes]:
        """Wait until the message at a position has come; return all that have come, bare.

        Each of them follows the one before it.
        """
        heard = await eventually(
            lambda: (
                [m for m in self.heard_in_place() if m.position == position]
                and self.heard_in_place()
            )
        )
        for one, next_one in itertools.pairwise(heard):
            assert next_one.previous == one.position.tag
            assert next_one.position.offset == one.position.offset + 1
        return [message.envelope for message in heard]


@asynccontextmanager
async def worker(url: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that is in the room. `options` are the adapter's."""
    one = Worker(RedisAdapter(url, **options))
    await one.adapter.start(one, [ROOM.channel])
    try:
        yield one
    finally:
        await one.adapter.close()


def numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]
