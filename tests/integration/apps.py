"""The application that the integration tests' servers run. Its clients say what it shall do.

A command names a chain of attributes and calls, as `clients.Call` records it, and the endpoint
follows that chain on its own `socket`, on the namespace's `rooms`, or on `app`, the helpers below.
So a test reads as an endpoint would, and one application serves all of them.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import os
from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, WebSocket
from fastapi.responses import StreamingResponse

from fastapi_rooms import (
    Gap,
    Joined,
    Namespace,
    OutboxPolicy,
    RemoteSocket,
    RequestTimeout,
    RoomManager,
    RoomMessage,
    Socket,
)
from fastapi_rooms.history import logs
from fastapi_rooms.worker import connection

logger = logging.getLogger(__name__)
logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")

if "CLOSE_TIMEOUT" in os.environ:
    connection.CLOSE_TIMEOUT = float(os.environ["CLOSE_TIMEOUT"])
outbox = OutboxPolicy(max_bytes=int(os.environ.get("OUTBOX_BYTES", str(64 * 1024 * 1024))))
logs.COMPARE = float(os.environ.get("COMPARE", logs.COMPARE))
logs.TRUSTED = float(os.environ.get("TRUSTED", logs.TRUSTED))
rooms = RoomManager(
    os.environ.get("ROOMS_URL", "memory://"),
    outbox=outbox,
    linger=0.1,
    heartbeat=float(os.environ.get("HEARTBEAT", "3")),
    drain_window=float(os.environ.get("DRAIN_WINDOW", "5")),
    drain_timeout=float(os.environ.get("DRAIN_TIMEOUT", "3")),
)
for pattern, kept in json.loads(os.environ.get("HISTORY", "{}")).items():
    rooms.history(pattern, **kept)
Rooms = Annotated[RoomManager, Depends(rooms)]

gaps: list[Gap] = []
rooms.on("gap")(gaps.append)
endpoints_running = 0
commands_running = 0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    async with rooms:
        yield
    for task in asyncio.all_tasks() - before:
        if "fastapi_rooms" in repr(task):
            logger.error("A task was left behind: %r", task)


app = FastAPI(lifespan=lifespan)


@rooms.authorize("guarded-*")
def may_join(socket: Socket, room: str) -> bool:
    return "guest" not in socket.websocket.query_params


@rooms.on_server_side("who")
async def who(*args: Any) -> list[Any]:
    return [os.getpid(), *args]


@app.websocket("/ws")
async def everyones(websocket: WebSocket, rooms: Rooms, sid: str | None = None) -> None:
    await serve(websocket, rooms, sid)


@app.websocket("/ws/{namespace}")
async def of_a_namespace(websocket: WebSocket, namespace: str, rooms: Rooms) -> None:
    await serve(websocket, rooms.of(namespace), None)


async def serve(websocket: WebSocket, rooms: Namespace, sid: str | None) -> None:
    global endpoints_running
    endpoints_running += 1
    try:
        async with rooms.connect(websocket, sid=sid) as socket:
            await socket.send_text(json.dumps({"sid": socket.sid, "worker": os.getpid()}))
            helpers = Helpers(socket)
            start = {"socket": socket, "rooms": rooms, "app": helpers}
            try:
                async for text in socket.iter_text():
                    number, name, steps = json.loads(text)
                    outcome = await follow(start[name], steps)
                    await socket.send_json({"reply": number, **outcome})
            finally:
                for room, goodbye in helpers.goodbyes:
                    await socket.to(room).send_text(goodbye)
    finally:
        endpoints_running -= 1


class Crash(Exception):
    """What an endpoint with a mistake in it raises."""


class Helpers:
    """What the endpoint does that is not a chain of the library's own words."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.goodbyes: list[tuple[str, str]] = []

    def say_at_the_end(self, room: str, goodbye: str) -> None:
        """Have a room told something when the client is gone."""
        self.goodbyes.append((room, goodbye))

    async def crash(self) -> None:
        """Raise in the endpoint."""
        raise Crash("as it was told to")

    async def burst(self, room: str, count: int, size: int = 0) -> None:
        """Send so many messages, each its number and `size` dots, as fast as it goes."""
        for number in range(count):
            await self.socket.to(room).send_text(f"{number}{'.' * size}")

    async def burst_at_once(self, room: str, count: int) -> None:
        """Send so many messages without waiting for one before the next."""
        sending = self.socket.to(room)
        await asyncio.gather(*(sending.send_text(str(number)) for number in range(count)))


async def follow(value: Any, steps: list[Any]) -> dict[str, Any]:
    """Go along a chain: a string is an attribute, a pair a call with arguments and named ones.

    An error is an outcome too: the client is told of it, and decides.
    """
    global commands_running
    commands_running += 1
    try:
        for step in steps:
            if isinstance(step, str):
                value = getattr(value, step)
            else:
                arguments, named = step
                value = value(*map(revive, arguments), **named)
        return {"value": plain(await value if inspect.isawaitable(value) else value)}
    except Crash:
        raise
    except Exception as error:  # noqa: BLE001
        outcome = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, RequestTimeout):
            outcome |= {"partial": plain(error.partial), "silent": plain(error.silent)}
        return outcome
    finally:
        commands_running -= 1


def revive(argument: Any) -> Any:
    """Bytes, which JSON has not, travel as base64."""
    if isinstance(argument, dict) and argument.keys() == {"base64"}:
        return base64.b64decode(argument["base64"])
    return argument


def plain(value: Any) -> Any:
    """A value as JSON can say it; a set of names becomes a sorted list."""
    match value:
        case RemoteSocket(sid=sid, node=node, rooms=rooms, data=data):
            return {"sid": sid, "node": node, "rooms": sorted(rooms), "data": data}
        case Joined():
            return asdict(value)
        case RoomMessage(text=text):
            return text
        case list():
            return [plain(item) for item in value]
        case AbstractSet():
            return sorted(value)
        case _:
            return value


def connections_open() -> int:
    """How many sockets this process holds, whatever its server says."""
    return sum(map(Path.is_socket, Path("/proc/self/fd").iterdir()))


@app.get("/health")
async def health(rooms: Rooms) -> dict[str, Any]:
    return {"worker": os.getpid(), "ready": rooms.health.ready}


@app.get("/state")
async def state(rooms: Rooms) -> dict[str, Any]:
    """What this worker holds: a socket that is gone must be in none of it."""
    return {
        "worker": os.getpid(),
        "ready": rooms.health.ready,
        "rooms": {room: sorted(sids) for room, sids in rooms.rooms.items()},
        "sids": {sid: sorted(names) for sid, names in rooms.sids.items()},
        "connections": connections_open(),
        "endpoints": endpoints_running,
        "commands": commands_running,
        "tasks": sorted(t.get_name() for t in asyncio.all_tasks() if "fastapi_rooms" in repr(t)),
        "dropped": rooms.health.dropped,
        "healed": rooms.health.healed,
        "unhealed": rooms.health.unhealed,
        "gaps": [[gap.since, gap.until, sorted(gap.rooms)] for gap in gaps],
    }


@app.post("/announce/{room}/{text}")
async def announce(room: str, text: str, rooms: Rooms) -> dict[str, int]:
    await rooms.to(room).send_text(text)
    return {"worker": os.getpid()}


@app.post("/drain")
async def drain(rooms: Rooms) -> None:
    await rooms.drain()


@app.get("/listen/{room}")
async def listen(
    room: str, rooms: Rooms, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    """A room as server-sent events; the first of them says that it is being heard.

    In a room that remembers, each has an id by which to go on behind it.
    """

    async def events() -> AsyncIterator[str]:
        async with rooms.listen(room, since=last_event_id) as messages:
            yield "retry: 50\nevent: listening\ndata:\n\n"
            if messages.recovered is False:
                yield "event: reload\ndata:\n\n"
            async for message in messages:
                if message.position is not None:
                    yield f"id: {message.position}\n"
                yield f"data: {message.text}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
