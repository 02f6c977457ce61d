"""A socket: its endpoint's view of one client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import InvalidMessage, InvalidRoomName
from fastapi_rooms.worker.resume import Joined, Resume
from fastapi_rooms.worker.socket import Socket
from tests.unit.support import FakeTransport, RecordingDispatcher

GONE: Message = {"type": "websocket.disconnect", "code": 1001, "reason": "bye"}


def _text(text: str) -> Message:
    return {"type": "websocket.receive", "text": text}


def _bytes(data: bytes) -> Message:
    return {"type": "websocket.receive", "bytes": data}


class _Host(RecordingDispatcher):
    """The namespace of the socket `ann`."""

    name = "/chat"
    namespace: Any = "the namespace"

    def __init__(self) -> None:
        super().__init__()
        self.sids: dict[str, frozenset[str]] = {"ann": frozenset({"ann", "lobby"})}
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def join(self, socket: Socket, rooms: tuple[str, ...], resume: Resume) -> Joined:
        self.asked.append(("join", rooms))
        return Joined()

    def position_of(self, room: str) -> str | None:
        return None

    def leave(self, socket: Socket, rooms: tuple[str, ...]) -> None:
        self.asked.append(("leave", rooms))

    def is_in(self, socket: Socket) -> bool:
        return socket.sid in self.sids

    def rooms_of(self, socket: Socket) -> frozenset[str]:
        return self.sids.get(socket.sid, frozenset())

    def lost(self, socket: Socket) -> None:
        self.asked.append(("lost", ()))

    async def disconnect(self, socket: Socket, code: int, reason: str) -> None:
        self.asked.append(("disconnect", (str(code), reason)))


async def _socket(
    *incoming: Message, host: _Host | None = None, transport: FakeTransport | None = None
) -> Socket:
    """The socket `ann`, accepted, whose client sends `incoming`."""
    messages = iter(({"type": "websocket.connect"}, *incoming))

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None: ...

    websocket = WebSocket({"type": "websocket"}, receive, send)
    await websocket.accept()
    transport = transport or FakeTransport()
    transport.receive = websocket.receive
    return Socket(host or _Host(), websocket, transport, "ann", {"name": "Ann"})


# Reading.


@pytest.mark.parametrize("text", ["hello", "", "hé 🎉"])
async def test_text_is_read_as_it_was_sent(text: str) -> None:
    socket = await _socket(_text(text))
    assert await socket.receive_text() == text


@pytest.mark.parametrize("data", [b"", bytes(range(256))])
async def test_bytes_are_read_as_they_were_sent(data: bytes) -> None:
    socket = await _socket(_bytes(data))
    assert await socket.receive_bytes() == data


@pytest.mark.parametrize("message", [_text('{"n": [1, null]}'), _bytes(b'{"n": [1, null]}')])
async def test_json_is_read_from_text_and_from_bytes(message: Message) -> None:
    socket = await _socket(message)
    assert await socket.receive_json() == {"n": [1, None]}


@pytest.mark.parametrize(
    ("verb", "message", "code", "reason"),
    [
        ("text", _bytes(b"x"), 1003, "Expected a text message, got bytes"),
        ("text", {**_bytes(b"x"), "text": None}, 1003, "Expected a text message"),
        ("bytes", _text("x"), 1003, "Expected bytes, got a text message"),
        ("json", _text("{"), 1007, "Expected JSON"),
        ("json", _text(""), 1007, "Expected JSON"),
        ("json", _bytes(b""), 1007, "Expected JSON"),
        ("json", _bytes(b"\xff"), 1007, "Expected JSON"),
        ("json", _text(str(math.nan)), 1007, "Expected JSON"),
    ],
)
async def test_what_cannot_be_read_is_the_clients_error_with_its_close_code(
    verb: str, message: Message, code: int, reason: str
) -> None:
    socket = await _socket(message, _text('"next"'), _bytes(b'"next"'))
    with pytest.raises(InvalidMessage, match=reason) as raised:
        await getattr(socket, f"receive_{verb}")()
    assert raised.value.code == code


async def test_an_endpoint_may_forgive_a_message_and_read_on() -> None:
    socket = await _socket(_text("no json"), _text("[1]"))
    with pytest.raises(InvalidMessage):
        await socket.receive_json()
    assert await socket.receive_json() == [1]


@pytest.mark.parametrize("verb", ["receive_text", "receive_bytes", "receive_json"])
async def test_a_client_that_goes_is_starlettes_disconnect_with_its_code(verb: str) -> None:
    socket = await _socket(GONE)
    with pytest.raises(WebSocketDisconnect) as raised:
        await getattr(socket, verb)()
    assert (raised.value.code, raised.value.reason) == (1001, "bye")


async def test_a_client_that_goes_without_a_code_is_told_apart() -> None:
    socket = await _socket({"type": "websocket.disconnect"})
    with pytest.raises(WebSocketDisconnect) as raised:
        await socket.receive_text()
    assert raised.value.code == 1005


async def test_reading_on_after_the_client_has_gone_is_a_disconnect_again() -> None:
    socket = await _socket(GONE)
    for code in (1001, 1006):
        with pytest.raises(WebSocketDisconnect) as raised:
            await socket.receive_text()
        assert raised.value.code == code


@pytest.mark.parametrize(
    ("verb", "messages", "expected"),
    [
        ("iter_text", [_text("a"), _text("b")], ["a", "b"]),
        ("iter_bytes", [_bytes(b"a"), _bytes(b"b")], [b"a", b"b"]),
        ("iter_json", [_text("[1]"), _bytes(b"2")], [[1], 2]),
    ],
)
async def test_iteration_ends_when_the_client_goes(
    verb: str, messages: list[Message], expected: list[object]
) -> None:
    socket = await _socket(*messages, GONE)
    iterator: AsyncIterator[object] = getattr(socket, verb)()
    assert [message async for message in iterator] == expected


@pytest.mark.parametrize(
    ("verb", "message"),
    [("iter_text", _bytes(b"x")), ("iter_bytes", _text("x")), ("iter_json", _text("{"))],
)
async def test_iteration_does_not_hide_what_cannot_be_read(verb: str, message: Message) -> None:
    socket = await _socket(message)
    with pytest.raises(InvalidMessage):
        async for _ in getattr(socket, verb)():
            pass


async def test_iteration_goes_on_where_a_timeout_has_cut_it_short() -> None:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    socket, transport = await _socket(), FakeTransport()
    transport.receive, socket._transport = messages.get, transport
    texts = socket.iter_text()
    waiting = asyncio.ensure_future(anext(texts))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    messages.put_nowait(_text("later"))
    assert await anext(texts) == "later"


# Writing.


async def test_what_is_sent_to_the_client_goes_to_its_transport_in_order() -> None:
    transport = FakeTransport()
    socket = await _socket(transport=transport)
    await socket.send_text("hé")
    await socket.send_bytes(b"\xff")
    await socket.send_json({"n": 1})
    assert transport.sent == [("hé".encode(), False), (b"\xff", True), (b'{"n":1}', False)]


@pytest.mark.parametrize(
    ("verb", "data"), [("text", b"bytes"), ("bytes", "text"), ("json", object())]
)
async def test_what_cannot_be_sent_is_refused(
    verb: Literal["text", "bytes", "json"], data: object
) -> None:
    transport = FakeTransport()
    socket = await _socket(transport=transport)
    with pytest.raises(TypeError):
        await getattr(socket, f"send_{verb}")(data)
    assert transport.sent == []


async def test_broadcasts_leave_the_socket_out() -> None:
    host = _Host()
    socket = await _socket(host=host)
    await socket.to("lobby", "bar").send_text("x")
    await socket.broadcast.send_text("x")
    await socket.broadcast.to("lobby").except_("bob").send_text("x")
    assert [sent.target for sent in host.sent] == [
        Target(("lobby", "bar"), ("ann",)),
        Target(None, ("ann",)),
        Target(("lobby",), ("ann", "bob")),
    ]


# Rooms.


async def test_join_and_leave_are_the_namespaces() -> None:
    host = _Host()
    socket = await _socket(host=host)
    await socket.join("a", "b")
    await socket.leave("a")
    assert host.asked == [("join", ("a", "b")), ("leave", ("a",))]


@pytest.mark.parametrize("verb", ["join", "leave", "to"])
@pytest.mark.parametrize("name", ["", "x" * 256, None, 5])
async def test_a_bad_name_is_refused_before_anything_happens(verb: str, name: Any) -> None:
    host = _Host()
    socket = await _socket(host=host)
    with pytest.raises(InvalidRoomName):
        await getattr(socket, verb)("fine", name)
    assert host.asked == []


async def test_its_rooms_are_those_of_the_map_and_none_once_it_has_left() -> None:
    host = _Host()
    socket = await _socket(host=host)
    assert socket.rooms == {"ann", "lobby"}
    host.sids["ann"] |= {"bar"}
    assert socket.rooms == {"ann", "lobby", "bar"}
    del host.sids["ann"]
    assert socket.rooms == set()


# What it is.


async def test_a_socket_shows_how_its_client_keeps_up() -> None:
    transport = FakeTransport()
    transport.pending, transport.dropped = 7, 3
    socket = await _socket(transport=transport)
    assert (socket.transport, socket.pending, socket.dropped) == ("fake", 7, 3)


async def test_a_socket_shows_who_and_where_it_is() -> None:
    socket = await _socket()
    assert (socket.sid, socket.data) == ("ann", {"name": "Ann"})
    assert repr(socket) == "<Socket 'ann' in /chat>"


async def test_a_socket_has_no_other_attributes_than_its_own() -> None:
    socket = await _socket()
    with pytest.raises(AttributeError):
        socket.user = "Ann"  # type: ignore[attr-defined]
