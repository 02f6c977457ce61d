"""A client of an edge, as its endpoint's server sees it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from fastapi_rooms import AdapterUnavailable
from fastapi_rooms.core.link import WINDOW
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.servers.gateway.connection import VirtualConnection
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind

OPEN: dict[str, Any] = {
    "path": "/",
    "raw_path": "/",
    "query_string": "",
    "root_path": "",
    "http_version": "1.1",
    "scheme": "ws",
    "headers": [],
    "subprotocols": [],
    "sid": "sid",
    "attempt": 0,
    "lost": 0,
    "sockets": {},
}


Published = list[tuple[FrameKind, bytes]]


def count(published: Published, kind: FrameKind) -> int:
    return sum(each is kind for each, _ in published)


@pytest.mark.parametrize("delay", [3600.0, 0.0])
async def test_messages_are_acknowledged_after_a_while_and_not_one_by_one(
    monkeypatch: pytest.MonkeyPatch, delay: float
) -> None:
    monkeypatch.setattr("fastapi_rooms.servers.gateway.connection.CREDIT_DELAY", delay)
    published: Published = []

    async def publish(kind: FrameKind, sequence: int, body: bytes) -> None:
        published.append((kind, body))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "heard"})

    connection = VirtualConnection(publish, OPEN)
    task = asyncio.create_task(connection.run(app))
    for number in range(3):
        connection.received(Frame(FrameKind.TEXT, "00" * 8, bytes(8), number + 2, b"hello"))
        await eventually(lambda: count(published, FrameKind.TEXT) > number)  # noqa: B023 -- awaited
    if delay:
        assert count(published, FrameKind.CREDIT) == 0
    else:
        await eventually(lambda: credited(published) == 3)
    connection.client_gone()
    await task


def credited(published: Published) -> int:
    """How many messages were acknowledged."""
    bodies = [body for kind, body in published if kind is FrameKind.CREDIT]
    return sum(wire.unpack_credit(body)[1] for body in bodies)


async def test_a_release_is_over_when_the_carrier_has_accepted_it() -> None:
    accepted = asyncio.Event()
    published: Published = []

    async def publish(kind: FrameKind, sequence: int, body: bytes) -> None:
        published.append((kind, body))
        if kind is FrameKind.RELEASE:
            await accepted.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    connection = VirtualConnection(publish, OPEN)
    connection.task = asyncio.create_task(connection.run(app))
    await eventually(lambda: count(published, FrameKind.ACCEPT))
    releasing = asyncio.create_task(connection.release(10))
    await eventually(lambda: count(published, FrameKind.RELEASE))
    await eventually(connection.task.done)
    assert not releasing.done()
    accepted.set()
    await releasing
    await connection.release(10)
    assert count(published, FrameKind.RELEASE) == 1


def opening(**about: Any) -> dict[str, Any]:
    return OPEN | {"sockets": {}} | about


class Edge:
    """Writes down what a connection publishes, and refuses it while it is `away`."""

    def __init__(self) -> None:
        self.published: Published = []
        self.away = False

    async def publish(self, kind: FrameKind, sequence: int, body: bytes) -> None:
        if self.away:
            raise AdapterUnavailable("away")
        self.published.append((kind, body))

    def kinds(self) -> list[FrameKind]:
        return [kind for kind, _ in self.published]


def frame(kind: FrameKind, sequence: int, body: bytes = b"") -> Frame:
    return Frame(kind, "00" * 8, bytes(8), sequence, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [("raw_path", "/€"), ("query_string", "€"), ("subprotocols", [1]), ("headers", [["€", ""]])],
)
def test_an_opening_that_no_server_could_have_got_is_malformed(name: str, value: Any) -> None:
    with pytest.raises(MalformedEnvelope):
        VirtualConnection(Edge().publish, opening(**{name: value}))


@pytest.mark.parametrize("accepts", [True, False])
async def test_an_endpoint_that_its_server_cancels_has_its_client_told(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if accepts:
            await send({"type": "websocket.accept"})
        began.set()
        await asyncio.Event().wait()

    edge, began = Edge(), asyncio.Event()
    task = asyncio.create_task(VirtualConnection(edge.publish, opening()).run(app))
    await began.wait()
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()
    kind, body = edge.published[-1]
    if accepts:
        assert (kind, wire.unpack_close(body)) == (FrameKind.CLOSE, (1012, "service restart"))
    else:
        assert (kind, wire.unpack_deny(body)[0]) == (FrameKind.DENY, 500)


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt])
async def test_an_endpoint_that_fails_is_in_the_log_unless_its_client_was_closed(
    caplog: pytest.LogCaptureFixture, gone: bool, error: type[BaseException]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        if gone:
            await send({"type": "websocket.close", "code": 4000})
        raise error("on purpose")

    edge = Edge()
    await VirtualConnection(edge.publish, opening()).run(app)
    assert ("on purpose" in caplog.text) is not gone
    assert edge.kinds() == [FrameKind.ACCEPT, FrameKind.CLOSE]
    assert wire.unpack_close(edge.published[-1][1])[0] == (4000 if gone else 1011)


async def test_an_endpoint_whose_event_loop_has_ended_says_nothing_any_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    edge = Edge()
    running = VirtualConnection(edge.publish, opening()).run(app)
    running.send(None)
    running.close()
    assert not edge.published
    assert not caplog.records


async def test_an_endpoint_ends_in_order_though_its_edge_cannot_be_told() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        edge.away = True

    edge = Edge()
    connection = VirtualConnection(edge.publish, opening())
    await connection.run(app)
    assert connection.over
    assert edge.kinds() == [FrameKind.ACCEPT]


async def test_a_refusal_in_parts_is_one_frame() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401})
        for part, more in ((b"not ", True), (b"you", False)):
            body = {"type": "websocket.http.response.body", "body": part, "more_body": more}
            await send(body)

    edge = Edge()
    await VirtualConnection(edge.publish, opening()).run(app)
    assert edge.kinds() == [FrameKind.DENY]
    assert wire.unpack_deny(edge.published[0][1]) == (401, [], b"not you")


async def test_an_endpoint_that_sends_what_asgi_does_not_have_is_told_what_that_was() -> None:
    connection = VirtualConnection(Edge().publish, opening())
    with pytest.raises(RuntimeError, match=r"websocket\.send.*connecting"):
        await connection.send({"type": "websocket.send", "text": "early"})
    await connection.send({"type": "websocket.accept"})
    with pytest.raises(RuntimeError, match=r"websocket\.accept.*accepted"):
        await connection.send({"type": "websocket.accept"})
    await connection.send({"type": "websocket.close"})
    with pytest.raises(OSError, match="disconnected"):
        await connection.send({"type": "websocket.send", "text": "late"})


async def test_an_endpoint_that_ends_in_spite_of_its_release_closes_nobody() -> None:
    """Its client goes on with another backend."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with suppress(asyncio.CancelledError):
            await receive()

    edge = Edge()
    connection = VirtualConnection(edge.publish, opening())
    connection.task = asyncio.create_task(connection.run(app))
    await eventually(lambda: connection._receiving)
    await connection.release(10)
    assert not connection.task.cancelled()
    assert edge.kinds() == [FrameKind.ACCEPT, FrameKind.RELEASE]


async def test_what_has_not_begun_is_released_at_once() -> None:
    edge = Edge()
    await VirtualConnection(edge.publish, opening()).release(10)
    assert edge.published == [(FrameKind.RELEASE, wire.pack_release(0))]


async def test_what_waits_as_something_is_missed_is_neither_read_nor_acknowledged() -> None:
    """The edge tells the next endpoint that it may be lost."""
    edge = Edge()
    connection = VirtualConnection(edge.publish, opening())
    await connection.receive()
    assert connection.received(frame(FrameKind.BYTES, 2, bytes(WINDOW // 2)))
    connection.detach()
    assert (await connection.receive())["type"] == "websocket.disconnect"
    assert edge.published == []


async def test_an_edge_that_sends_beyond_its_window_is_not_listened_to() -> None:
    connection = VirtualConnection(Edge().publish, opening())
    assert connection.received(frame(FrameKind.BYTES, 2, bytes(WINDOW)))
    assert not connection.received(frame(FrameKind.BYTES, 3, b"more"))


async def test_nothing_is_asked_of_an_edge_whose_client_is_gone() -> None:
    edge = Edge()
    connection = VirtualConnection(edge.publish, opening())
    connection.client_gone()
    with pytest.raises(ConnectionError):
        await connection.call("join", 1, namespace="/", rooms=["tea"])
    connection.tell("leave", namespace="/", rooms=["tea"])
    assert edge.published == []


async def test_an_edge_that_does_not_answer_in_time_is_unavailable() -> None:
    connection = VirtualConnection(Edge().publish, opening())
    with pytest.raises(AdapterUnavailable, match=r"'join'.* 0 s"):
        await connection.call("join", 0, namespace="/", rooms=["tea"])


async def test_replies_to_what_was_not_asked_change_nothing() -> None:
    connection = VirtualConnection(Edge().publish, opening())
    calling = asyncio.create_task(connection.call("join", 10, namespace="/", rooms=["tea"]))
    await eventually(lambda: connection._calls._pending)
    replies = [{"id": 7}, {"id": 1, "joined": 1}, {"id": 1, "joined": 2}]
    for sequence, reply in enumerate(replies, 2):
        assert connection.received(frame(FrameKind.REPLY, sequence, wire.to_json(reply)))
    assert await calling == {"id": 1, "joined": 1}


async def test_a_sign_that_a_call_is_under_way_may_come_before_its_answer_is_waited_for() -> None:
    """As the carrier may be slow to say that it has taken the call."""

    async def publish(kind: FrameKind, sequence: int, body: bytes) -> None:
        for number, reply in enumerate(({"id": 1, "pending": True}, {"id": 1, "joined": 1}), 2):
            assert connection.received(frame(FrameKind.REPLY, number, wire.to_json(reply)))

    connection = VirtualConnection(publish, opening())
    assert await connection.call("join", 10, namespace="/", rooms=[]) == {"id": 1, "joined": 1}


CLOSES = [{"type": "websocket.close", "code": code} for code in (0, 1006, 70_000)]
HEADER = {"type": "websocket.accept", "headers": [("text", "text")]}
BODY = {"type": "websocket.http.response.body"}


@pytest.mark.parametrize("close", CLOSES)
async def test_a_close_that_cannot_be_sent_is_an_error_and_closes_the_client_all_the_same(
    caplog: pytest.LogCaptureFixture, close: dict[str, Any]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send(close)

    edge = Edge()
    await VirtualConnection(edge.publish, opening()).run(app)
    assert "close code" in caplog.text
    assert wire.unpack_close(edge.published[-1][1])[0] == 1011


@pytest.mark.parametrize(
    "answer",
    [[{"type": "websocket.http.response.start", "status": 99_999}, BODY], [HEADER]],
)
async def test_an_answer_that_cannot_be_sent_is_an_error_and_refuses_the_client(
    caplog: pytest.LogCaptureFixture, answer: list[dict[str, Any]]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in answer:
            await send(message)

    edge = Edge()
    await VirtualConnection(edge.publish, opening()).run(app)
    assert "Exception in an endpoint" in caplog.text
    ((kind, body),) = edge.published
    assert (kind, wire.unpack_deny(body)[0]) == (FrameKind.DENY, 500)


@pytest.mark.parametrize("kind", [FrameKind.CLOSE, FrameKind.DENY, FrameKind.CALL])
async def test_an_edge_is_told_that_it_is_over_where_it_could_not_be_told_how(
    kind: FrameKind,
) -> None:
    told: list[str] = []

    async def publish(each: FrameKind, sequence: int, body: bytes) -> None:
        if each is kind:
            raise AdapterUnavailable("away")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if kind is FrameKind.DENY:
            await send({"type": "websocket.close"})
        await send({"type": "websocket.accept"})
        if kind is FrameKind.CLOSE:
            await send({"type": "websocket.close"})
        connection.tell("leave", namespace="/", rooms=["tea"])
        await receive()

    connection = VirtualConnection(publish, opening(), lambda: told.append("over"))
    await connection.run(app)
    assert told == ["over"]


async def test_an_edge_that_knows_that_it_is_over_is_not_told_so() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    told: list[str] = []
    for how in ("closes", "has lost its client", "has something missing"):
        edge = Edge()
        connection = VirtualConnection(edge.publish, opening(), lambda: told.append("over"))
        if how == "has lost its client":
            body = wire.pack_close(1000, "")
            assert connection.received(frame(FrameKind.CLOSE, 2, body))
        elif how == "has something missing":
            connection.detach()
        await connection.run(app)
    assert told == []
