"""What an application has of Socket.IO: `emit`, what is refused, clones, and emitters."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel

from fastapi_rooms import (
    AsyncEmitter,
    ConfigurationError,
    EmitOperator,
    Emitter,
    Events,
    MessageTooLarge,
    NotStarted,
    RedisAdapter,
    RoomManager,
    SocketIO,
    UsageError,
)
from fastapi_rooms.testing import Member
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.worker.run import TURN_BYTES
from tests.unit.socketio_support import SharedAdapter
from tests.unit.support import RecordingDispatcher
from tests.unit.test_emitter import NOBODY, Notebook

RABBITMQ = "amqp://127.0.0.1:1"
CLUSTER = "redis+cluster://127.0.0.1:1"


class Person(BaseModel):
    """An argument of an application's own."""

    name: str


class OneSided(Events):
    """A codec that keeps some things to one side."""

    def to_native(self, event: str, args: list[Any]) -> Any:
        return None if event == "theirs" else super().to_native(event, args)

    def to_event(self, message: str | bytes) -> Any:
        return None if message == "ours" else super().to_event(message)


async def test_emit_needs_to_be_told_of_socketio() -> None:
    async with RoomManager() as rooms:
        with pytest.raises(UsageError, match=r"socketio=SocketIO\(\)"):
            await rooms.emit("x")
    emitter = Emitter(NOBODY)
    with pytest.raises(UsageError, match=r"Emitter\(url, socketio=SocketIO\(\)\)"):
        emitter.emit("x")


async def test_emit_needs_a_manager_that_runs() -> None:
    rooms = RoomManager(SharedAdapter(), socketio=SocketIO())
    with pytest.raises(NotStarted):
        await rooms.emit("x")


@pytest.mark.parametrize("where", ["memory://", "memory://name", CLUSTER, RABBITMQ])
def test_it_is_refused_where_no_node_server_is(where: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the Redis that the Socket\.IO servers are on"):
        RoomManager(where, socketio=SocketIO())


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
def test_it_is_refused_to_emitters_likewise(kind: type[Emitter | AsyncEmitter]) -> None:
    with pytest.raises(ConfigurationError, match="not a Redis Cluster"):
        kind(CLUSTER, socketio=SocketIO())
    with pytest.raises(ConfigurationError, match="not RabbitMQ"):
        kind(RABBITMQ, socketio=SocketIO())
    with pytest.raises(ConfigurationError, match="choose another prefix"):
        kind(NOBODY, prefix="socket.io", socketio=SocketIO())


def test_sentinels_lead_to_such_a_redis() -> None:
    where = "redis+sentinel://127.0.0.1:1/name"
    assert not RoomManager(where, socketio=SocketIO()).health.ready
    Emitter(where, socketio=SocketIO()).close()


def test_a_prefix_that_is_the_key_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="choose another prefix"):
        RoomManager(NOBODY, prefix="socket.io", socketio=SocketIO())
    with pytest.raises(ConfigurationError, match="choose another prefix"):
        RoomManager(RedisAdapter(NOBODY, prefix="k"), socketio=SocketIO(key="k"))


async def test_a_clone_in_memory_has_the_events_and_no_node_servers() -> None:
    rooms = RoomManager(NOBODY, socketio=SocketIO(codec=OneSided()))
    async with rooms.clone() as clone, Member(clone, "red") as ann:
        await clone.to("red").emit("news", 1)
        await clone.to("red").emit("theirs", 1)
        await clone.to("red").send_text("end")
        assert await ann.receive_until("end") == ['{"event":"news","args":[1]}']
        assert await clone.count() == 1


async def test_arguments_may_be_whatever_send_json_takes_and_bytes() -> None:
    adapter = SharedAdapter()
    async with (
        RoomManager(adapter, socketio=SocketIO()) as rooms,
        Member(rooms, "red") as ann,
    ):
        arguments = (Person(name="Ann"), date(2026, 1, 2), (b"\xff", {"x": memoryview(b"")}), {1})
        await rooms.to("red").emit("e", *arguments)
        native = await ann.receive_json()
    expected = [{"name": "Ann"}, "2026-01-02", [b"\xff", {"x": b""}], [1]]
    assert native["args"][2] == [{"$binary": "/w=="}, {"x": {"$binary": ""}}]
    ((channel, event, opts),) = adapter.broadcasts
    assert channel == "socket.io#/#red#"
    assert event == ["e", *expected]
    assert opts == {"rooms": ["red"], "except": [], "flags": {}}


async def test_a_codec_may_keep_things_to_one_side() -> None:
    adapter = SharedAdapter()
    settings = SocketIO(codec=OneSided())
    async with (
        RoomManager(adapter, socketio=settings) as rooms,
        Member(rooms, "red") as ann,
    ):
        await rooms.to("red").emit("theirs", 1)
        await rooms.to("red").send_text("ours")
        await rooms.to("red").local.emit("theirs", 2)
        await rooms.to("red").volatile.emit("theirs", 3)
        await rooms.to("red").send_text("end")
        assert await ann.receive_until("end") == ["ours"]
    assert [event for _, event, _ in adapter.broadcasts] == [["theirs", 1], ["message", "end"]]
    volatile = [data for channel, data in adapter.published_volatile if b"socket.io" in channel]
    ((_, packet, opts),) = map(msgpack.unpack, volatile)
    assert packet["data"] == ["theirs", 3]
    assert opts["flags"] == {"volatile": True}


async def test_an_operator_hands_an_event_on() -> None:
    dispatcher = RecordingDispatcher()
    rooms = RoomManager()
    operator = rooms.to("a").except_("b").volatile
    operator._dispatcher = dispatcher
    await operator.emit("e", 1, 2)
    ((target, event, args, local, volatile),) = dispatcher.emitted
    assert (target.rooms, target.except_) == (("a",), ("b",))
    assert (event, args, local, volatile) == ("e", (1, 2), False, True)


async def test_threads_emit_too() -> None:
    adapter = SharedAdapter()
    async with (
        RoomManager(adapter, socketio=SocketIO()) as rooms,
        Member(rooms, "red") as ann,
    ):
        await asyncio.to_thread(rooms.sync.to("red").emit, "e", 1)
        assert await ann.receive_json() == {"event": "e", "args": [1]}
    assert [event for _, event, _ in adapter.broadcasts] == [["e", 1]]


@pytest.mark.parametrize("event", ["e", "theirs"])
async def test_an_event_over_the_limit_reaches_nobody(event: str) -> None:
    adapter, settings = SharedAdapter(), SocketIO(codec=OneSided())
    async with RoomManager(adapter, socketio=settings, max_message_bytes=20) as rooms:
        with pytest.raises(MessageTooLarge):
            await rooms.emit(event, "x" * 20)
    assert adapter.once == []


async def test_who_emits_to_one_side_alone_steps_aside_for_others() -> None:
    settings = SocketIO(codec=OneSided())
    async with RoomManager(SharedAdapter(), socketio=settings) as rooms:
        others: list[str] = []
        asyncio.get_running_loop().call_soon(others.append, "had a turn")
        await rooms.emit("theirs")
        assert not others
        await rooms.emit("theirs", "x" * TURN_BYTES)
        assert others


async def test_a_clone_may_be_told_of_socketio_and_remember_events() -> None:
    rooms = RoomManager()
    rooms.history("chat")
    clone = rooms.clone(socketio=SocketIO())
    async with clone, Member(clone, "chat") as ann:
        await clone.to("chat").emit("news", 1)
        assert await ann.receive_json() == {"event": "news", "args": [1]}
        assert [m.text for m in await clone.recent("chat")] == ['{"event":"news","args":[1]}']


# Emitters.


class SharedNotebook(Notebook):
    """A client whose connections write down what is sent once, too."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.connection_pool = Pool(self)  # type: ignore[assignment]  # a part of one


class Pool:
    """A pool of one connection, which writes down what it is sent."""

    def __init__(self, notebook: SharedNotebook) -> None:
        self._notebook = notebook
        self.failing = False
        self.disconnected = 0

    def get_connection(self, *_: object) -> Pool:
        return self

    def send_command(self, *command: Any) -> None:
        if self.failing:
            raise ConnectionResetError("gone")
        self._notebook.execute_command(*command)

    def read_response(self) -> int:
        return 0

    def disconnect(self) -> None:
        self.disconnected += 1

    def release(self, connection: object) -> None:
        """It is free again."""

    def close(self) -> None:
        """It is never closed."""


@pytest.fixture
def notebook() -> SharedNotebook:
    return SharedNotebook()


def foreign(notebook: SharedNotebook) -> list[tuple[str, Any]]:
    return [
        (c.decode(), json.loads(data) if data.startswith(b"{") else msgpack.unpack(data))
        for c, data in notebook.published
        if c.startswith(b"socket.io")
    ]


def test_an_emitter_publishes_both(notebook: SharedNotebook) -> None:
    emitter = Emitter(notebook, socketio=SocketIO())
    emitter.to("red").emit("e", 1, b"x")
    emitter.of("/private").send_text("ours")
    emitter.to().emit("nobody")
    assert notebook.channels == [b"rooms#/#red#", b"socket.io#/#red#", b"rooms#/private#"]
    assert codec.decode(notebook.published[0][1]).payload.text == (  # type: ignore[union-attr]  # one
        '{"event":"e","args":[1,{"$binary":"eA=="}]}'
    )
    assert foreign(notebook) == [
        (
            "socket.io#/#red#",
            [
                "rooms.0000000000000000",
                {"type": 2, "data": ["e", 1, b"x"], "nsp": "/"},
                {"rooms": ["red"], "except": [], "flags": {}},
            ],
        )
    ]


def test_an_emitters_commands_are_told_to_node_servers(notebook: SharedNotebook) -> None:
    emitter: EmitOperator[None] = Emitter(notebook, socketio=SocketIO(mode="send"))
    emitter.to("red").sockets_join("blue")
    emitter.to("red").sockets_leave("8")
    emitter.except_("red").disconnect_sockets()
    opts = {"rooms": ["red"], "except": []}
    uid = "rooms.0000000000000000"
    assert foreign(notebook) == [
        ("socket.io-request#/#", {"uid": uid, "type": 2, "opts": opts, "rooms": ["blue"]}),
        ("socket.io-request#/#", {"uid": uid, "type": 3, "opts": opts, "rooms": ["8", 8]}),
        (
            "socket.io-request#/#",
            {"uid": uid, "type": 4, "opts": {"rooms": [], "except": ["red"]}, "close": True},
        ),
    ]


def test_an_emitters_server_side_event_is_told_too(notebook: SharedNotebook) -> None:
    emitter = Emitter(notebook, socketio=SocketIO())
    emitter.server_side_emit("e", 1)
    ((_, request),) = foreign(notebook)
    assert request == {"uid": "rooms.0000000000000000", "type": 6, "data": ["e", 1]}
    with pytest.raises(UsageError, match="Node servers keep"):
        emitter.server_side_emit("error")
    assert len(notebook.published) == 2


def test_an_emitter_may_be_told_to_say_nothing_there(notebook: SharedNotebook) -> None:
    emitter = Emitter(notebook, socketio=SocketIO(mode="receive", codec=OneSided()))
    emitter.emit("e")
    emitter.emit("theirs")
    emitter.to("red").sockets_join("blue")
    assert foreign(notebook) == []
    assert len(notebook.published) == 2


def test_an_emitters_codec_may_keep_things_to_one_side(notebook: SharedNotebook) -> None:
    emitter = Emitter(notebook, socketio=SocketIO(codec=OneSided()))
    emitter.emit("theirs", 1)
    emitter.to().emit("theirs")
    emitter.send_text("ours")
    assert notebook.channels == [b"socket.io#/#", b"rooms#/#"]


@pytest.mark.parametrize("event", ["e", "theirs"])
def test_an_emitters_event_over_the_limit_reaches_nobody(
    notebook: SharedNotebook, event: str
) -> None:
    settings = SocketIO(codec=OneSided())
    emitter = Emitter(notebook, socketio=settings, max_message_bytes=20)
    with pytest.raises(MessageTooLarge):
        emitter.emit(event, "x" * 20)
    assert notebook.published == []


def test_what_is_sent_once_is_not_sent_again(notebook: SharedNotebook) -> None:
    emitter = Emitter(notebook, socketio=SocketIO())
    pool: Any = notebook.connection_pool
    pool.failing = True
    with pytest.raises(Exception, match="did not accept it"):
        emitter.emit("e")
    assert pool.disconnected == 1
    emitter.volatile.send_text("x")  # is not waited for
    assert notebook.channels == [b"rooms#/#", b"rooms#/#"]
