"""What emitters publish, and what they refuse, with clients that only write it down."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.exceptions import ResponseError

from fastapi_rooms import (
    AdapterUnavailable,
    AsyncEmitter,
    ConfigurationError,
    Emitter,
    InvalidNamespace,
    InvalidRoomName,
    MessageTooLarge,
    UsageError,
)
from fastapi_rooms.adapters.declarations import PresenceDeclaration
from fastapi_rooms.adapters.redis.declared.form import fields_of
from fastapi_rooms.adapters.redis.presence import questions
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators import present
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast, Request

NOBODY = "redis://127.0.0.1:1"


class Notebook(redis.Redis):
    """Takes everything for accepted, and knows of no role."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.published: list[tuple[bytes, bytes]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def execute_command(self, *command: Any, **options: Any) -> Any:
        if command[0] != "PUBLISH":
            raise ResponseError(f"unknown command {command[0]!r}")
        self.published.append(command[1:])
        self.meanwhile()
        return 0

    @property
    def messages(self) -> list[Any]:
        return [codec.decode(data) for _, data in self.published]

    @property
    def channels(self) -> list[bytes]:
        return [channel for channel, _ in self.published]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def emitter(notebook: Notebook) -> Emitter:
    return Emitter(notebook)


def test_a_message_goes_to_the_channel_of_its_rooms(emitter: Emitter, notebook: Notebook) -> None:
    channels = Channels("rooms")
    sid = f"{'a' * 16}.{'b' * 16}"
    emitter.to("tea").send_text("1")
    emitter.to("tea", "coffee").send_text("2")
    emitter.of("chat").send_text("3")
    emitter.to(sid).send_text("4")
    emitter.to("tea").sockets_join("coffee")
    assert notebook.channels == [
        channels.of_room("/", "tea"),
        channels.of_namespace("/"),
        channels.of_namespace("/chat"),
        channels.of_sids("a" * 16),
        channels.of_workers(),
    ]


def test_the_numbers_of_an_origin_rise_from_one(emitter: Emitter, notebook: Notebook) -> None:
    for _ in range(3):
        emitter.send_text("hello")
    emitter.of("/chat").disconnect_sockets()
    assert [message.sequence for message in notebook.messages] == [1, 2, 3, 4]
    assert len({message.origin for message in notebook.messages}) == 1


def test_every_emitter_is_an_origin_of_its_own(notebook: Notebook) -> None:
    for _ in range(2):
        Emitter(notebook).send_text("hello")
    assert len({message.origin for message in notebook.messages}) == 2


def test_what_is_said_of_a_broadcast_is_in_it(emitter: Emitter, notebook: Notebook) -> None:
    emitter.of("chat").to("tea").volatile.except_("muted", "sid").to("tea", "milk").send_json({})
    emitter.to("tea").volatile.to("milk").send_bytes(memoryview(b"\xff"))
    one, two = notebook.messages
    assert isinstance(one, Broadcast)
    assert (one.namespace, one.volatile) == ("/chat", True)
    assert one.target == Target(("tea", "milk"), ("muted", "sid"))
    assert (one.payload.text, one.payload.binary) == ("{}", False)
    assert (two.payload.data, two.payload.binary, two.volatile) == (b"\xff", True, True)


def test_a_request_wants_no_answer(emitter: Emitter, notebook: Notebook) -> None:
    room = emitter.to("tea").except_("muted")
    room.sockets_join("a", "b")
    room.sockets_leave("c")
    room.disconnect_sockets(4000, "bye")
    emitter.of("chat").server_side_emit("reload", 1, None)
    requests = notebook.messages
    assert all(isinstance(request, Request) and request.id == 0 for request in requests)
    assert [(request.verb, request.arguments) for request in requests] == [
        ("join", {"rooms": ["a", "b"]}),
        ("leave", {"rooms": ["c"]}),
        ("disconnect", {"code": 4000, "reason": "bye"}),
        ("emit", {"event": "reload", "args": [1, None]}),
    ]
    assert [request.target for request in requests[:3]] == [Target(("tea",), ("muted",))] * 3
    assert requests[3].namespace == "/chat"


def test_nobody_is_told_nothing(emitter: Emitter, notebook: Notebook) -> None:
    nobody = emitter.to()
    nobody.send_text("hello")
    nobody.sockets_join("tea")
    nobody.disconnect_sockets()
    assert notebook.published == []


def test_operators_do_not_change(emitter: Emitter, notebook: Notebook) -> None:
    room = emitter.to("tea")
    room.except_("muted")
    _ = room.volatile
    room.send_text("hello")
    assert notebook.messages[0].target == Target(("tea",))
    assert not notebook.messages[0].volatile
    assert repr(room.except_("x").volatile) == (
        "<EmitOperator of=/ to=('tea',) except_=('x',) volatile>"
    )


def test_what_cannot_be_sent_is_refused_and_not_published(notebook: Notebook) -> None:
    emitter = Emitter(notebook, max_message_bytes=3)
    emitter.send_text("äb")
    with pytest.raises(MessageTooLarge) as caught:
        emitter.send_text("äbc")
    assert (caught.value.size, caught.value.limit) == (4, 3)
    with pytest.raises(MessageTooLarge):
        emitter.server_side_emit("event", "x")
    with pytest.raises(InvalidRoomName):
        emitter.to("")
    with pytest.raises(InvalidRoomName):
        emitter.except_("x" * 256)
    with pytest.raises(InvalidRoomName):
        emitter.sockets_join("tea", "")
    with pytest.raises(InvalidRoomName):
        emitter.sockets_leave("")
    with pytest.raises(InvalidNamespace):
        emitter.of("a#b")
    with pytest.raises(UsageError):
        emitter.disconnect_sockets(1006)
    with pytest.raises(UsageError):
        emitter.disconnect_sockets(reason="x" * 124)
    with pytest.raises(UsageError, match="65535"):
        emitter.to(*map(str, range(65_536)))
    with pytest.raises(TypeError):
        emitter.send_json(object())
    with pytest.raises(TypeError):
        emitter.server_side_emit("event", object())
    with pytest.raises(UsageError, match="named by a string"):
        emitter.server_side_emit(123)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        emitter.send_text(b"bytes")  # type: ignore[arg-type]
    assert len(notebook.published) == 1


def test_of_gives_a_namespace_with_the_same_outlet(emitter: Emitter) -> None:
    assert (emitter.name, emitter.of("/").name, emitter.of("chat").name) == ("/", "/", "/chat")


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
@pytest.mark.parametrize(
    "where",
    [
        "memory://",
        "localhost:6379",
        "redis://localhost:port",
        "redis+sentinel://localhost",
        "redis+cluster://localhost:0",
        None,
        17,
    ],
)
def test_what_leads_to_no_redis_is_refused(kind: type[Emitter | AsyncEmitter], where: Any) -> None:
    with pytest.raises(ConfigurationError):
        kind(where)


def test_the_other_kind_of_client_is_refused(notebook: Notebook) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio\.Redis"):
        AsyncEmitter(notebook)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"a redis\.Redis"):
        Emitter(redis.asyncio.Redis())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Emitter, AsyncEmitter])
@pytest.mark.parametrize(
    "settings", [{"timeout": 0}, {"max_message_bytes": 0}, {"prefix": "a#b"}, {"prefix": ""}]
)
def test_settings_that_cannot_be_are_refused(
    kind: type[Emitter | AsyncEmitter], settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        kind(NOBODY, **settings)


def test_one_message_is_accepted_before_the_next_is_numbered(
    emitter: Emitter, notebook: Notebook
) -> None:
    """Else they could overtake each other, and the later would be taken for a repetition."""
    turn = emitter._sender._turn
    held: list[bool] = []
    notebook.meanwhile = lambda: held.append(turn.locked())
    emitter.send_text("first")

    def fail() -> None:
        held.append(turn.locked())
        raise ZeroDivisionError

    notebook.meanwhile = fail
    with pytest.raises(ZeroDivisionError):
        emitter.send_text("second")
    assert held == [True, True]
    assert not turn.locked()


def test_another_process_is_another_origin(
    emitter: Emitter, notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitter.send_text("here")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    emitter.send_text("there")
    one, two = notebook.messages
    assert one.origin != two.origin
    assert two.sequence == 1


class AsyncNotebook(redis.asyncio.Redis):
    """A client that writes down what is published."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[Broadcast] = []

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        if command[0] == "PUBLISH":
            message = codec.decode(command[2])
            assert isinstance(message, Broadcast)
            self.said.append(message)


def test_another_event_loop_is_another_origin() -> None:
    notebook = AsyncNotebook()
    emitter = AsyncEmitter(notebook)
    for _ in range(2):
        asyncio.run(emitter.send_text("hello"))
    one, two = notebook.said
    assert one.origin != two.origin
    assert len(emitter._senders) == 1  # what belongs to a loop that is closed is forgotten


def test_event_loops_that_run_side_by_side_keep_what_is_their_own() -> None:
    notebook = AsyncNotebook()
    emitter = AsyncEmitter(notebook)
    with asyncio.Runner() as one, asyncio.Runner() as two:
        for runner in (one, two, one, two):
            runner.run(emitter.send_text("hello"))
        assert len({message.origin for message in notebook.said}) == 2
        assert [message.sequence for message in notebook.said] == [1, 1, 2, 2]
        one.run(emitter.close())
        for runner in (one, two):
            runner.run(emitter.send_text("hello"))
        assert [message.sequence for message in notebook.said[4:]] == [1, 3]


class Nonsense(redis.Redis):
    """Redis-py, which makes something of a reply to SSCAN, and of one to HGETALL."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        raise TypeError("cannot unpack non-iterable int object")


def test_a_reply_of_which_the_client_can_make_nothing_is_no_error_of_the_caller() -> None:
    emitter = Emitter(Nonsense())
    with pytest.raises(AdapterUnavailable, match=r"did not say who is present: .*makes no sense"):
        emitter.presence.rooms("ann")
    with pytest.raises(AdapterUnavailable, match=r"did not accept it: .*makes no sense"):
        emitter.to("tea").send_text("hello")


def test_presence_is_that_of_a_namespace(emitter: Emitter) -> None:
    assert repr(emitter.of("chat").presence) == "<EmitPresence in /chat>"
    assert repr(emitter.presence) == "<EmitPresence in />"


DECLARED = fields_of([PresenceDeclaration("/", "*", 0)], "")


class Scanned(AsyncNotebook):
    """A room of which there is always more."""

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        if command[0] == "HGETALL":
            return DECLARED
        if command[0] == "HSCAN":
            await asyncio.sleep(0)
            return 1 - bool(self.said), {b"uann": b"1"}
        return await super().execute_command(*command, **options)


def test_what_is_sent_meanwhile_does_not_wait_for_a_large_room_to_be_read() -> None:
    async def ask_and_send() -> None:
        async with AsyncEmitter(Scanned()) as emitter:
            asked = asyncio.create_task(emitter.presence.users("tea"))
            await emitter.to("tea").send_text("hello")
            assert [user.user for user in (await asked).users] == ["ann"]

    asyncio.run(ask_and_send())


class Endless(redis.Redis):
    """Has always something more."""

    def execute_command(self, *command: Any, **options: Any) -> Any:
        replies: dict[Any, Any] = {"HGETALL": DECLARED, "HSCAN": (1, {}), "SSCAN": (1, [])}
        return replies.get(command[0])


def test_what_has_no_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(present, "MAX_PAGES", 3)
    monkeypatch.setattr(questions, "MAX_PAGES", 3)
    presence = Emitter(Endless()).presence
    with pytest.raises(AdapterUnavailable, match="no end of who is present in 'tea'"):
        presence.users("tea")
    with pytest.raises(AdapterUnavailable, match="finds no end"):
        presence.rooms("ann")
