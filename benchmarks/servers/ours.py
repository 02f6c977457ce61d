"""fastapi_rooms.

Variants: `asgi`, without the direct transport; `global`, without `Depends`; `history`, in rooms
that remember what is said; `beside`, where other rooms do; `presence`, in rooms that know who is
present, each socket by itself.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket

from benchmarks.servers.options import read_options, serve
from fastapi_rooms import RoomManager

PATTERNS = {"history": "*", "beside": "kept-*"}

options = read_options()
rooms = RoomManager(options.redis or "memory://", direct_writes=options.variant != "asgi")
if options.variant in PATTERNS:
    rooms.history(PATTERNS[options.variant])
if options.variant == "presence":
    rooms.presence("*", grace=0)
app = FastAPI(lifespan=rooms.lifespan)
Rooms = Annotated[RoomManager, Depends(rooms)]


async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join(room)
        await socket.send_text("ready")
        async for text in socket.iter_text():
            await rooms.to(room).send_text(text)


@app.get("/ask/{what}/{times}")
async def ask(what: str, times: int, rooms: Rooms) -> int:
    found = 0
    for _ in range(times):
        found = await rooms.count() if what == "count" else len(await rooms.fetch_sockets())
    return found


async def chat_without_depends(websocket: WebSocket, room: str) -> None:
    await chat(websocket, room, rooms)


app.websocket("/ws/{room}")(chat_without_depends if options.variant == "global" else chat)

if __name__ == "__main__":
    serve(app, options)
