"""A worker in a process of its own, with one member, until its standard input ends."""

from __future__ import annotations

import asyncio
import sys

from fastapi_rooms import RoomManager, SocketIO
from fastapi_rooms.testing import Member


async def main(url: str, key: str) -> None:
    async with (
        RoomManager(url, socketio=SocketIO(key=key)) as rooms,
        Member(rooms, "far", data={"name": "far"}) as member,
    ):
        sys.stdout.write(f"{member.sid}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
