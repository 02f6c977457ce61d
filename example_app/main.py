"""A chat across workers: what one says, the whole room hears, whichever worker each of them is on.

One worker, in memory:     uvicorn example_app.main:app
Two workers, over Redis:   ROOMS_URL=redis://localhost:6379 uvicorn example_app.main:app --workers 2
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, WebSocket
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError

from example_app import admin, people
from example_app import protocol as page
from example_app.hub import PREFIX, Rooms, key, room_of, rooms, said_in, worker
from fastapi_rooms import AdapterUnavailable, RoomManager, Socket, client

STATIC = Path(__file__).parent / "static"
MAX_ROOMS = 20  # per socket
RECENT = 50  # messages that a newcomer gets
Announced = Annotated[page.Text, Body(embed=True)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with rooms:
        watching = asyncio.create_task(people.watch_workers())
        yield
        watching.cancel()


app = FastAPI(title="Interchange", lifespan=lifespan)
app.include_router(admin.router)
app.mount("/static", StaticFiles(directory=STATIC))
app.mount("/rooms", client.files)  # the page's connection


@app.get("/", include_in_schema=False)
async def index() -> FileResponse:
    return FileResponse(STATIC / "index.html")


@app.websocket("/ws")
async def chat(websocket: WebSocket, name: page.Name, rooms: Rooms) -> None:
    async with rooms.connect(websocket, data={"name": name}) as socket:
        await socket.send_json({"type": "welcome", **people.person(people.user_of(socket))})
        for room in socket.data.get("rooms", []):  # behind an edge: of the backend before this one
            await join(socket, room)
        async for text in socket.iter_text():
            try:
                await handle(socket, rooms, page.incoming.validate_json(text))
            except ValidationError as problem:
                wrong = problem.errors()[0]
                await refuse(socket, f"{wrong['msg']} in {wrong['loc'] or 'the message'}")


async def handle(socket: Socket, rooms: RoomManager, message: page.Incoming) -> None:
    me = people.person(people.user_of(socket))
    inside = {room for room in socket.rooms if room.startswith(PREFIX)}
    try:
        match message:
            case page.Rename(name=name):
                socket.data["name"] = name  # who a socket is, is found out as it joins
                await socket.leave(*inside)
                await socket.join(*inside)
                for each in inside:
                    await socket.send_json(await people.people(each))
            case page.Join(room=room) if key(room) in inside or len(inside) < MAX_ROOMS:
                await join(socket, room)
            case page.Join():
                await refuse(socket, f"{MAX_ROOMS} rooms are enough: leave one first", message)
            case _ if key(message.room) not in inside:
                await refuse(socket, "Join the room first", message)
            case page.Say(room=room, text=text, ref=ref):
                said = dict(me, type="say", room=room, text=text, ref=ref, at=time.time())
                await rooms.to(said_in(room)).send_json(said)
            case page.Typing(room=room):
                await socket.to(key(room)).volatile.send_json(dict(me, type="typing", room=room))
            case page.Leave(room=room):
                await socket.leave(key(room), said_in(room))
                note_rooms(socket)
    except AdapterUnavailable:
        if isinstance(message, page.Join | page.Rename):
            raise  # closes the connection with 1013: the page's client comes back, and asks again
        await refuse(socket, "The other workers cannot be reached just now", message)


async def join(socket: Socket, room: str) -> None:
    """Who comes back gets what was said meanwhile, a newcomer the last; then comes "joined"."""
    if said_in(room) not in socket.rooms:
        await socket.join(said_in(room), recent=RECENT)
    await socket.join(key(room))  # the room is told by people.py
    note_rooms(socket)
    await socket.send_json(await people.people(key(room)))
    await socket.send_json({"type": "joined", "room": room})


def note_rooms(socket: Socket) -> None:
    """What an endpoint leaves to the next, if its backend is replaced, is in `data`."""
    socket.data["rooms"] = [room_of(room) for room in socket.rooms if room.startswith(PREFIX)]


async def refuse(socket: Socket, why: str, message: page.Incoming | None = None) -> None:
    """Tell the client what was wrong, and with which of its messages if that could be read."""
    about = message and message.model_dump()
    await socket.send_json({"type": "error", "message": why, "about": about})


@app.post("/announce/{room:path}", status_code=202)
async def announce(room: page.RoomName, text: Announced, rooms: Rooms) -> dict[str, Any]:
    """An HTTP route speaks to a room with the same manager."""
    news = {"room": room, "text": text, "at": time.time(), "worker": worker()}
    try:
        await rooms.to(said_in(room)).send_json(dict(news, type="announcement"))
    except AdapterUnavailable as problem:
        told = "Nobody knows whether anybody was told" if problem.uncertain else "Nobody was told"
        raise HTTPException(503, told) from problem
    return news


@app.get("/events/{room:path}")
async def events(room: page.RoomName, rooms: Rooms) -> StreamingResponse:
    """What is said in a room, as server-sent events: a member without a socket."""

    async def stream() -> AsyncIterator[str]:
        async with rooms.listen(key(room), said_in(room)) as messages:
            yield f": listening on {worker()}\n\n"
            async for message in messages:
                if said := page.said(message):
                    yield f"data: {said}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/health")
async def health(rooms: Rooms) -> JSONResponse:
    """Ready, or 503: a load balancer then sends people to a worker that hears the others."""
    ready = rooms.health.ready
    return JSONResponse({"ready": ready, "worker": worker()}, 200 if ready else 503)
