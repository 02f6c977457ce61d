"""A support desk: customers and agents meet in tickets, on as many workers as you like."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Literal

import jwt
from celery import Celery
from fastapi import Cookie, Depends, FastAPI, HTTPException, Response, WebSocket
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from fastapi_rooms import (
    AdapterUnavailable,
    AllowedOrigins,
    Emitter,
    Listener,
    ListenerOverflow,
    RateLimit,
    RoomManager,
    ShuttingDown,
    Socket,
)

# --8<-- [start:setup]
REDIS = os.environ.get("DESK_REDIS", "redis://localhost:6379")
SECRET = os.environ.get("DESK_SECRET", "at least 32 bytes, and not in the repository")
LIFETIME = float(os.environ.get("DESK_LIFETIME", "3600"))  # of a login, in seconds

AGENTS = {"cem", "dora"}  # these two are in your database
CUSTOMERS = {1: "ann", 2: "bob"}  # of each ticket

rooms = RoomManager(REDIS)
app = FastAPI(lifespan=rooms.lifespan)
Rooms = Annotated[RoomManager, Depends(rooms)]
own_pages = AllowedOrigins()
# --8<-- [end:setup]


# --8<-- [start:login]
class User(BaseModel):
    name: str
    is_agent: bool
    expires: float


def current_user(token: Annotated[str, Cookie()] = "") -> User:
    try:
        claims = jwt.decode(token, SECRET, ["HS256"], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError:
        raise HTTPException(401, "log in") from None
    name = claims["sub"]
    return User(name=name, is_agent=name in AGENTS, expires=claims["exp"])


def current_agent(user: Annotated[User, Depends(current_user)]) -> User:
    if not user.is_agent:
        raise HTTPException(403, "agents only")
    return user


@app.post("/login")
def log_in(name: str, response: Response) -> None:  # yours asks for a password
    claims = {"sub": name, "exp": time.time() + LIFETIME}
    token = jwt.encode(claims, SECRET, "HS256")
    response.set_cookie("token", token, httponly=True, samesite="lax")


# --8<-- [end:login]


# --8<-- [start:authorize]
@rooms.authorize("*")
async def is_known_kind(socket: Socket, room: str) -> bool:
    return room.startswith(("ticket:", "notes:"))


@rooms.authorize("ticket:*")
async def may_read_ticket(socket: Socket, room: str) -> bool:
    number = int(room.removeprefix("ticket:"))
    return socket.data["is_agent"] or socket.data["name"] == CUSTOMERS[number]


@rooms.authorize("notes:*")
async def may_read_notes(socket: Socket, room: str) -> bool:
    return socket.data["is_agent"]


# --8<-- [end:authorize]


# --8<-- [start:messages]
class Say(BaseModel):
    type: Literal["say"]
    text: str = Field(max_length=2000)


class Note(BaseModel):
    type: Literal["note"]
    text: str = Field(max_length=2000)


class Typing(BaseModel):
    type: Literal["typing"]


Message = TypeAdapter[Say | Note | Typing](
    Annotated[Say | Note | Typing, Field(discriminator="type")]
)
# --8<-- [end:messages]


# --8<-- [start:ticket]
@app.websocket("/tickets/{number}", dependencies=[Depends(own_pages)])
async def ticket(
    websocket: WebSocket,
    number: int,
    user: Annotated[User, Depends(current_user)],
    rooms: Rooms,
) -> None:
    public, private = f"ticket:{number}", f"notes:{number}"
    limit = RateLimit(10, burst=20, byte_rate=16_384)
    who = {"name": user.name, "is_agent": user.is_agent}
    async with rooms.connect(websocket, data=who) as socket:
        if number not in CUSTOMERS:
            raise HTTPException(404, "no such ticket")
        await socket.join(public)
        if user.is_agent:
            await socket.join(private)
        await socket.send_json({"type": "joined", "ticket": number})
        try:
            async with asyncio.timeout(user.expires - time.time()):
                async for text in socket.iter_text():
                    limit.check(text)
                    await react(socket, rooms, user, number, text)
        except TimeoutError:
            raise HTTPException(401, "log in") from None


async def react(socket: Socket, rooms: RoomManager, user: User, number: int, text: str) -> None:
    public, private = f"ticket:{number}", f"notes:{number}"
    try:
        message = Message.validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        await socket.send_json({"type": "wrong", "errors": wrong})
        return
    match message:
        case Typing():
            await socket.to(public).volatile.send_json({"type": "typing", "from": user.name})
        case Say():
            said = {"type": "said", "from": user.name, "text": message.text}
            await rooms.to(public).send_json(said)
            await rooms.to("dashboard").send_json({"ticket": number, "from": user.name})
        case Note() if user.is_agent:
            note = {"type": "note", "from": user.name, "text": message.text}
            await rooms.to(private).send_json(note)
        case Note():
            raise HTTPException(403, "agents only")


# --8<-- [end:ticket]


# --8<-- [start:routes]
@app.post("/announcements", dependencies=[Depends(current_agent)])
async def announce(text: str, rooms: Rooms) -> None:
    await rooms.send_json({"type": "announcement", "text": text})


@app.post("/tickets/{number}/close", dependencies=[Depends(current_agent)])
def close(number: int, rooms: Rooms) -> None:
    rooms.sync.to(f"ticket:{number}").send_json({"type": "closed"})
    summarize.delay(number)


# --8<-- [end:routes]


# --8<-- [start:task]
celery = Celery("desk", broker=f"{REDIS}/1")
emitter = Emitter(REDIS)


@celery.task
def summarize(number: int) -> None:
    summary = f"a summary of ticket {number}"  # after minutes of work
    emitter.to(f"notes:{number}").send_json({"type": "summary", "text": summary})
    emitter.to("dashboard").send_json({"ticket": number, "summary": summary})


# --8<-- [end:task]


# --8<-- [start:dashboard]
async def dashboard_events(rooms: Rooms) -> AsyncIterator[Listener]:
    try:
        async with rooms.listen("dashboard", everyone=True) as messages:
            yield messages
    except (AdapterUnavailable, ShuttingDown):
        raise HTTPException(503) from None


@app.get("/dashboard", dependencies=[Depends(current_agent)], response_class=EventSourceResponse)
async def dashboard(
    messages: Annotated[Listener, Depends(dashboard_events)],
) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="listening")
    with suppress(ListenerOverflow):  # a slow client; it reconnects
        async for message in messages:
            yield ServerSentEvent(raw_data=message.text)


# --8<-- [end:dashboard]
