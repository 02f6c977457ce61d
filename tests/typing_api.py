"""The public API as a user writes it: nothing here runs, mypy and pyright read it, both strict.

Where an `assert_type` no longer holds, or a `type: ignore` is no longer needed, the API's types
have changed, and they say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_type

from fastapi import APIRouter, Depends, FastAPI, Response, WebSocket
from fastapi.responses import StreamingResponse
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from starlette.applications import Starlette

from fastapi_rooms import (
    Adapter,
    AdapterUnavailable,
    AllowedOrigins,
    AsyncEmitter,
    BroadcastOperator,
    ClientError,
    Compression,
    Disconnected,
    EmitNamespace,
    EmitOperator,
    EmitPresence,
    Emitter,
    Gap,
    Health,
    Listener,
    MemoryAdapter,
    MemoryBus,
    Namespace,
    OutboxPolicy,
    Presence,
    PresenceEvent,
    Present,
    PresentUser,
    RabbitMQAdapter,
    RateLimit,
    RedisAdapter,
    RoomManager,
    RoomMessage,
    RoomsError,
    Socket,
    WorkerLost,
)
from fastapi_rooms.client import (
    BufferLimits,
    ClientMessage,
    ClientSocket,
    StateChange,
    connect,
)

rooms = RoomManager("redis://localhost:6379")
app = FastAPI(lifespan=rooms.lifespan)
plain = Starlette(lifespan=rooms.lifespan)
router = APIRouter(lifespan=rooms.lifespan)

Rooms = Annotated[RoomManager, Depends(rooms)]
Chat = Annotated[Namespace, Depends(rooms.of("/chat"))]


# Endpoints.


@app.websocket("/chat/{room}")
async def chat(websocket: WebSocket, room: str, rooms: Rooms) -> None:
    async with rooms.connect(websocket) as socket:
        assert_type(socket, Socket)
        await socket.join(room)
        async for text in socket.iter_text():
            assert_type(text, str)
            await socket.to(room).send_text(text)


@app.websocket("/everything")
async def everything(websocket: WebSocket, chat: Chat, rooms: Rooms) -> None:
    async with chat.connect(
        websocket,
        sid="ann",
        data={"name": "Ann"},
        subprotocol="v2",
        headers=[(b"x-worker", b"1")],
    ) as socket:
        await socket.join("a", "b")
        await socket.leave("a")
        assert_type(await socket.receive_text(), str)
        assert_type(await socket.receive_bytes(), bytes)
        assert_type(await socket.receive_json(), Any)
        async for data in socket.iter_bytes():
            assert_type(data, bytes)
        async for value in socket.iter_json():
            assert_type(value, Any)
        await socket.send_text("text")
        await socket.send_bytes(b"bytes")
        await socket.send_json({"any": ["thing"]})
        assert_type(socket.sid, str)
        assert_type(socket.data, dict[str, Any])
        assert_type(socket.rooms, AbstractSet[str])
        assert_type(socket.broadcast, BroadcastOperator)
        assert_type(socket.to("a", "b"), BroadcastOperator)
        assert_type(socket.transport, str)
        assert_type(socket.pending, int)
        assert_type(socket.dropped, int)
        name: str = socket.websocket.headers["host"]
        await rooms.to(name).send_text("hello")


@app.post("/announce/{room}")
async def announce(room: str, rooms: Rooms, chat: Chat) -> None:
    await rooms.to(room).except_("muted", "ann").local.volatile.send_json({"hello": room})
    await rooms.to(room).volatile.emit("news", {"a": 1}, b"bytes")
    await rooms.send_text("everyone")
    await chat.volatile.send_bytes(b"everyone in the chat")
    everyone_else: BroadcastOperator = chat.except_("ann")
    await everyone_else.to(room).send_text("hello")


@app.get("/events/{room}")
async def events(room: str, rooms: Rooms) -> Response:
    async def stream() -> AsyncIterator[str]:
        async with rooms.listen(room, outbox=OutboxPolicy(overflow="drop_oldest")) as messages:
            assert_type(messages, Listener)
            async for message in messages:
                assert_type(message, RoomMessage)
                assert_type(message.room, str)
                assert_type(message.bytes, bytes)
                assert_type(message.json(), Any)
                yield f"data: {message.text}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/ready")
async def ready(rooms: Rooms) -> Health:
    health = rooms.health
    assert_type(health, Health)
    assert_type(health.ready, bool)
    assert_type(health.last_received, float | None)
    health.ready = False  # type: ignore[misc]
    return health


# Lifespans and settings.


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with rooms as running:
        assert_type(running, RoomManager)
        yield


def settings(redis: Redis) -> list[RoomManager]:
    bus = MemoryBus()
    adapters: list[Adapter] = [MemoryAdapter(bus), RedisAdapter(redis, prefix="mine")]
    return [
        RoomManager(),
        RoomManager("memory://shared", prefix="mine", join_timeout=1, linger=0.5),
        rooms.clone(),
        rooms.clone(MemoryAdapter(bus), outbox=OutboxPolicy(1000), heartbeat=1),
        RoomManager(RedisAdapter("redis://localhost", publish_timeout=2)),
        RoomManager(RabbitMQAdapter("amqp://localhost", max_queue_bytes=1024)),
        RoomManager(outbox=OutboxPolicy(max_bytes=4096, overflow="close", close_code=4000)),
        RoomManager(compression=Compression(threshold=1024, level=1)),
        RoomManager(compression=None).clone(compression=False),
        *[RoomManager(adapter, max_message_bytes=1024) for adapter in adapters],
    ]


def overrides() -> None:
    app.dependency_overrides[rooms] = RoomManager()
    app.dependency_overrides[rooms.of("/chat")] = RoomManager().of("/chat")


def views() -> None:
    assert_type(rooms.rooms, Mapping[str, AbstractSet[str]])
    assert_type(rooms.sids, Mapping[str, AbstractSet[str]])
    rooms.rooms["lobby"] = set()  # type: ignore[index]
    rooms.rooms["lobby"].add("ann")  # type: ignore[attr-defined]


# Events.


@rooms.on("join-room")
def joined(room: str, socket: Socket) -> None:
    assert_type(socket.namespace, Namespace)


@rooms.on("connect")
async def connected(socket: Socket) -> None:
    await socket.broadcast.send_text(f"{socket.sid} is here")


@rooms.of("/chat").on("gap")
def missed(gap: Gap) -> None:
    assert_type(gap.rooms, tuple[str, ...])
    assert_type(gap.namespace, Namespace)
    assert_type(gap.until - gap.since, float)


@rooms.on("worker-lost")
async def tell(lost: WorkerLost) -> None:
    assert_type(lost.rooms, tuple[str, ...])
    assert_type(lost.namespace, Namespace)


own_pages = AllowedOrigins("https://chat.example.com", same_host=True)


@app.websocket("/guarded", dependencies=[Depends(own_pages)])
async def has_authorizers(websocket: WebSocket) -> None:
    await own_pages(websocket)
    async with rooms.connect(websocket) as socket:
        limit = RateLimit(10, burst=20, byte_rate=1e5)
        async for text in socket.iter_text():
            assert_type(limit.allow(text), bool)
            limit.check()


@rooms.authorize("private-*")
def is_plain(socket: Socket, room: str) -> bool:
    return room in socket.rooms


@rooms.of("/chat").authorize()
async def is_async(socket: Socket, room: str) -> bool:
    return room in socket.rooms


# A decorated handler keeps its type, and can be called.
async def called(websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        joined("lobby", socket)
        is_plain("lobby")  # type: ignore[call-arg, arg-type]
        joined("lobby")  # type: ignore[call-arg]
        joined("lobby", "ann")  # type: ignore[arg-type]


# Who is present.

presence = rooms.presence("chat-*", user="name", grace=5)
in_chat = rooms.of("/chat").presence("*", user=lambda socket: str(socket.data["name"]))


@presence.on("join")
@presence.on("leave", one_worker=True)
async def came_or_went(event: PresenceEvent) -> None:
    assert_type(event.user, str)
    assert_type(event.version, int)
    assert_type(event.namespace, Namespace)


@app.get("/who/{room}")
async def who(room: str, rooms: Rooms) -> Present:
    assert_type(presence, Presence)
    assert_type(presence.of(rooms), Presence)
    present = await presence.users(room)
    assert_type(present, Present)
    assert_type(present.users, tuple[PresentUser, ...])
    assert_type(present.users[0].sids, tuple[str, ...])
    assert_type(await presence.count(room), int)
    assert_type(await presence.is_present("ann", room), bool)
    assert_type(await in_chat.rooms("ann"), set[str])
    present.version = 0  # type: ignore[misc]
    return present


def wrong_presence() -> None:
    presence.on("came")  # type: ignore[arg-type]
    rooms.presence("chat-*", user=len)  # type: ignore[arg-type]
    presence.users("lobby")  # type: ignore[unused-coroutine]


# Emitters.


def task() -> None:
    with Emitter("redis://localhost:6379") as emitter:
        assert_type(emitter, Emitter)
        assert_type(emitter.of("/chat"), EmitNamespace[None])
        assert_type(emitter.to("lobby").except_("muted").volatile, EmitOperator[None])
        emitter.to("lobby").send_json({"report": 1})
        emitter.to("lobby").emit("report", 1)
        emitter.server_side_emit("reload", 1)
        emitter.to("lobby").disconnect_sockets(4000, "closing time")
        assert_type(emitter.presence, EmitPresence[None])
        assert_type(emitter.presence.users("lobby"), Present)
        assert_type(emitter.presence.count("lobby"), int)
        assert_type(emitter.of("/chat").presence.is_present("ann", "lobby"), bool)
        assert_type(emitter.presence.rooms("ann"), set[str])
    Emitter(BlockingRedis()).close()
    Emitter(Redis())  # type: ignore[arg-type]


async def async_task() -> None:
    async with AsyncEmitter(Redis()) as emitter:
        assert_type(emitter, AsyncEmitter)
        sent = emitter.to("lobby").send_text("hello")
        await assert_type(sent, Coroutine[Any, Any, None])
        await emitter.of("/chat").to("lobby").send_bytes(b"hello")
        await asyncio.create_task(emitter.sockets_join("lobby"))
        emitter.to("lobby").send_text("not awaited")  # type: ignore[unused-coroutine]
        assert_type(await emitter.presence.users("lobby"), Present)
        assert_type(await emitter.presence.count("lobby"), int)
        assert_type(await emitter.of("/chat").presence.is_present("ann", "lobby"), bool)
        assert_type(await asyncio.create_task(emitter.presence.rooms("ann")), set[str])
        emitter.presence.count("lobby")  # type: ignore[unused-coroutine]
    AsyncEmitter(BlockingRedis())  # type: ignore[arg-type]


# The client for Python.


async def token(refresh: bool) -> str:
    return "new" if refresh else "old"


def headers(refresh: bool) -> dict[str, str]:
    return {"Authorization": f"Bearer {refresh}"}


async def read_again(room: str, recovered: bool) -> None: ...


async def client() -> None:
    async with connect("ws://localhost/chat", token=token, on_recovered=read_again) as socket:
        assert_type(socket, ClientSocket)
        async for message in socket:
            assert_type(message, ClientMessage)
            assert_type(message.text, str)
            assert_type(message.bytes, bytes)
            assert_type(message.position, str | None)
        assert_type(socket.positions, dict[str, str])
        await socket.send_json({"got": 1})
    states: list[StateChange] = []
    buffer = BufferLimits(messages=10)
    connect(token, headers=headers, token="t", on_state=states.append, buffer=buffer, proxy=None)
    assert_type(states[0].delay, float | None)
    connect("ws://localhost", token=None, headers={"X-Name": "bot"}, server_hostname="chat")
    connect("ws://localhost", token=1)  # type: ignore[arg-type]
    connect("ws://localhost", headers="X-Name: bot")  # type: ignore[arg-type]
    connect("ws://localhost", on_state=token)  # type: ignore[arg-type]
    connect("ws://localhost", compression="zip")  # type: ignore[arg-type]


# What is wrong is an error before it runs.


async def wrong(websocket: WebSocket) -> None:
    rooms.on("joined")(print)  # type: ignore[arg-type]
    OutboxPolicy(overflow="drop")  # type: ignore[arg-type]
    RoomManager(1)  # type: ignore[arg-type]
    rooms.clone(linger="long")  # type: ignore[arg-type]
    rooms.clone(outbx=OutboxPolicy())  # type: ignore[call-arg]
    rooms.start()  # type: ignore[unused-coroutine]
    rooms.authorize()(joined)  # type: ignore[type-var]
    RateLimit(10).check(["x"])  # type: ignore[arg-type]
    rooms.to(1)  # type: ignore[arg-type]
    rooms.to(["lobby"])  # type: ignore[arg-type]
    await rooms.send_text(b"bytes")  # type: ignore[arg-type]
    await rooms.send_bytes("text")  # type: ignore[arg-type]
    rooms.send_text("not awaited")  # type: ignore[unused-coroutine]
    async with rooms.connect(websocket, data=[]) as socket:  # type: ignore[arg-type]
        socket.user = "ann"  # type: ignore[attr-defined]
        socket.join("lobby")  # type: ignore[unused-coroutine]


async def errors() -> None:
    try:
        await asyncio.gather(rooms.send_text("a"), rooms.of("/chat").send_text("b"))
    except AdapterUnavailable as error:
        assert_type(error, AdapterUnavailable)
    except ClientError as error:
        assert_type(error.code, int)
    except Disconnected as error:
        assert_type(error.status, int | None)
    except RoomsError:
        raise
