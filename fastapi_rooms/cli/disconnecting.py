"""Who `fastapi-rooms disconnect` disconnects: those it has found, one by one, and no other.

So nobody is disconnected who came while the question was being answered, or who is in a room that
has the name of another's sid; and how many it were is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple

from fastapi_rooms import RemoteSocket, RequestError
from fastapi_rooms.cli.session import Session, with_partial

AT_ONCE = 100
"""How many are disconnected at the same time."""

Found = Collection[tuple[str, str]]
"""The workers and sids of sockets."""


class Disconnection(NamedTuple):
    """What is to be done to whom."""

    session: Session
    names: list[str]
    code: int
    reason: str

    async def find(self) -> Found:
        """Who is there now. Raises `UsageError` for a close code or reason that cannot be."""
        async with self.session.rooms() as rooms:
            await rooms.local.to().disconnect_sockets(self.code, self.reason)  # checks them
            sockets, _ = await with_partial(rooms.to(*self.names).fetch_sockets())
            return {(socket.node, socket.sid) for socket in sockets}

    async def carry_out(self, found: Found | None) -> tuple[int, RequestError | None]:
        """Disconnect whoever of those is still there, or everyone (`None`).

        Returns how many that were, and what kept others from it.
        """
        async with self.session.rooms() as rooms:
            await rooms.local.to().disconnect_sockets(self.code, self.reason)
            sockets, error = await with_partial(rooms.to(*self.names).fetch_sockets())
            if found is not None:
                sockets = [s for s in sockets if (s.node, s.sid) in found]
            done = 0
            for start in range(0, len(sockets), AT_ONCE):
                some = sockets[start : start + AT_ONCE]
                for result in await asyncio.gather(*map(self._disconnect, some)):
                    done += result is None
                    error = error or result
            return done, error

    async def _disconnect(self, socket: RemoteSocket) -> RequestError | None:
        return (await with_partial(socket.disconnect(self.code, self.reason)))[1]
