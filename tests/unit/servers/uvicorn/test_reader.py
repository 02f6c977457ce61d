"""Reading plain messages past the server's parser: the same comes out as without it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocket
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from fastapi_rooms.servers.uvicorn.connection import has_starlettes_receive
from fastapi_rooms.servers.uvicorn.inbox import Inbox
from fastapi_rooms.servers.uvicorn.reader import Reader
from tests.unit.servers.uvicorn.support import ANYTHING_ELSE, MAX_SIZE, Wire, frame, text


class Connection(NamedTuple):
    """An accepted connection of uvicorn's, with our inbox, and with our reader or without."""

    protocol: Any
    wire: Wire
    endpoint_is_over: asyncio.Event

    @classmethod
    async def open(cls, *, reader: bool, deflate: bool = False) -> Connection:
        accepted, over = asyncio.Event(), asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            accepted.set()
            await over.wait()

        config = Config(app, ws_max_size=MAX_SIZE, ws_ping_interval=None, lifespan="off")
        config.load()
        protocol: Any = WebSocketsSansIOProtocol(config, ServerState(), {})
        protocol.logger.disabled = True  # it logs what is not UTF-8
        wire = Wire()
        protocol.connection_made(wire)
        offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else b""
        protocol.data_received(
            b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n" + offer
        )
        protocol.data_received(b"\r\n")
        await accepted.wait()
        assert bool(protocol.conn.extensions) is deflate
        wire.written = b""
        connection = cls(protocol, wire, over)
        if reader:
            connection.take_over()
        else:
            connection.put_inbox()
        return connection

    def put_inbox(self) -> Inbox:
        inbox = Inbox(self.wire, paused=False)
        self.protocol.queue, self.protocol.read_paused = inbox, True
        return inbox

    def take_over(self) -> None:
        Reader.install(self.protocol, self.put_inbox(), self.protocol.conn.state)
        assert "data_received" in vars(self.protocol)

    def feed(self, data: bytes) -> object:
        """Returns what it raises, as uvicorn does over a close after text that is none."""
        try:
            self.protocol.data_received(data)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is to be the same
            self.wire.close()  # as asyncio does
            return repr(error)
        return None

    async def events(self) -> list[Any]:
        events = []
        while self.protocol.queue._events:
            events.append(await self.protocol.receive())
        return events

    async def end(self) -> None:
        self.endpoint_is_over.set()
        await asyncio.wait(self.protocol.tasks)
        if self.protocol.close_timer is not None:
            self.protocol.close_timer.cancel()


Step = bytes | Callable[[Connection], Any]
"""Bytes that arrive, or something the server does."""


async def _server_closes(connection: Connection) -> None:
    if not connection.protocol.close_sent:
        await connection.protocol.send({"type": "websocket.close", "code": 4000})


async def _server_stops(connection: Connection) -> None:
    if connection.protocol.conn.state.name == "OPEN":
        connection.protocol.shutdown()


async def _server_sends(connection: Connection) -> None:
    if connection.protocol.conn.state.name == "OPEN":
        await connection.protocol.send({"type": "websocket.send", "text": "hello " * 30})


def _compressed(data: bytes) -> bytes:
    extension = PerMessageDeflate(True, True, 12, 12)
    made = extension.encode(Frame(Opcode.TEXT, data))
    sent = frame(1, bytes(made.data))
    return bytes([sent[0] | 0x40]) + sent[1:]


_DATA = st.one_of(st.binary(max_size=12), st.text(max_size=8).map(str.encode))

FRAMES = st.one_of(
    st.builds(frame, st.sampled_from([1, 1, 2]), _DATA),
    st.builds(
        frame,
        st.integers(0, 15),
        _DATA,
        fin=st.booleans(),
        length_bytes=st.sampled_from([None, 2, 8]),
    ),
    st.builds(frame, st.sampled_from([0, 1]), _DATA, fin=st.booleans()),
    st.sampled_from([frame(8, b"\x03\xe8"), frame(9, b"ping"), frame(10, b"ping")]),
    _DATA.map(_compressed),
    st.sampled_from([frame(2, bytes(n)) for n in (65_535, 65_536, MAX_SIZE, MAX_SIZE + 1)]),
    st.sampled_from([*ANYTHING_ELSE.values()]),
    st.binary(min_size=1, max_size=6),
)
"""A client's frames: plain ones, and all that can be wrong with one."""

RUNS = st.one_of(
    st.lists(st.text(max_size=40).map(text), min_size=1, max_size=3),
    st.just([frame(1, b"frag", fin=False)]),
    st.lists(FRAMES, min_size=1, max_size=6),
)
"""Frames that come one after the other."""

# A strategy that is made in a draw is examined anew in each: that took most of the time.
_LENGTHS, _YES_OR_NO = st.integers(1, 6), st.booleans()
_ACTIONS = st.sampled_from([_server_closes, _server_stops, _server_sends])


@st.composite
def steps(draw: st.DrawFn) -> list[Step]:
    """Frames, cut anywhere or nowhere, with the server doing something in between."""
    made: list[Step] = []
    for _ in range(draw(_LENGTHS)):
        run = draw(RUNS)
        if draw(_YES_OR_NO):
            made += run
        else:
            data = b"".join(run)
            cuts = sorted(draw(st.lists(st.integers(1, max(1, len(data) - 1)), max_size=5)))
            made += [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        if draw(_YES_OR_NO):
            made.append(draw(_ACTIONS))
    return [step for step in made if step]


@settings(max_examples=200)
@given(steps(), st.booleans(), st.integers(0, 2))
async def test_whatever_a_client_sends_comes_out_as_without_it(
    script: list[Step], deflate: bool, before: int
) -> None:
    plain = await Connection.open(reader=False, deflate=deflate)
    ours = await Connection.open(reader=False, deflate=deflate)
    for number, step in enumerate(script):
        if number == before and ours.protocol.conn.state.name == "OPEN":
            ours.take_over()  # wherever the connection stands, in the midst of a frame perhaps
        if not isinstance(step, bytes):
            for connection in (plain, ours):
                await step(connection)
        elif not plain.wire.closed:
            assert plain.feed(step) == ours.feed(step)
        assert await plain.events() == await ours.events()
        assert plain.wire.written == ours.wire.written
        for attribute in ("closed", "paused"):
            assert getattr(plain.wire, attribute) == getattr(ours.wire, attribute)
        for attribute in ("close_sent", "frames", "read_paused"):
            assert getattr(plain.protocol, attribute) == getattr(ours.protocol, attribute)
        assert plain.protocol.conn.state is ours.protocol.conn.state
        assert plain.protocol.conn.close_sent == ours.protocol.conn.close_sent
        assert plain.protocol.conn.close_rcvd == ours.protocol.conn.close_rcvd
    for connection in (plain, ours):
        await connection.end()


async def test_plain_messages_do_not_reach_the_parser_and_all_others_do() -> None:
    connection = await Connection.open(reader=True)
    parsed: list[bytes] = []
    parse = connection.protocol.conn.receive_data

    def receive_data(data: bytes) -> None:
        parsed.append(data)
        parse(data)

    connection.protocol.conn.receive_data = receive_data
    seen: list[bytes] = []
    for step, to_the_parser in [
        (text("a") + frame(2, b"b"), False),
        (text("half")[:3], True),
        (text("half")[3:] + text("c"), True),
        (text("d"), False),
        (frame(1, b"frag", fin=False), True),
        (frame(9, b"ping"), True),
        (text("e")[:0] + frame(0, b"ment"), True),
        (text("f"), False),
    ]:
        connection.protocol.data_received(step)
        seen += [step] * to_the_parser
        assert parsed == seen
    got = [e.get("text", e.get("bytes")) for e in await connection.events()]
    assert got == ["a", b"b", "half", "c", "d", "fragment", "f"]
    await connection.end()


async def test_a_fragmented_message_is_not_broken_by_a_plain_one() -> None:
    connection = await Connection.open(reader=True)
    connection.protocol.data_received(frame(1, b"frag", fin=False))
    connection.protocol.data_received(text("plain"))
    events = await connection.events()
    assert [(e["type"], e.get("code")) for e in events] == [("websocket.disconnect", 1002)]
    await connection.end()


async def test_a_message_after_the_servers_close_is_discarded_as_uvicorn_does() -> None:
    connection = await Connection.open(reader=True)
    await _server_closes(connection)
    connection.protocol.data_received(text("too late"))
    assert [event["type"] for event in await connection.events()] == ["websocket.disconnect"]
    await connection.end()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda p: setattr(p.conn, "debug", True), id="frames are logged"),
        pytest.param(lambda p: setattr(p, "frames", None), id="another implementation"),
        pytest.param(lambda p: setattr(p.config, "ws_max_size", None), id="no limit is known"),
        pytest.param(lambda p: setattr(p, "data_received", print), id="somebody else was first"),
    ],
)
async def test_any_doubt_leaves_reading_to_uvicorn(spoil: Callable[[Any], None]) -> None:
    connection = await Connection.open(reader=False)
    spoil(connection.protocol)
    before = connection.protocol.data_received
    Reader.install(connection.protocol, connection.put_inbox(), connection.protocol.conn.state)
    assert connection.protocol.data_received == before
    await connection.end()


@pytest.mark.parametrize("version", ["14.2", "18.0", "next"])
async def test_an_untested_parser_is_left_alone(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await Connection.open(reader=False)
    monkeypatch.setattr("websockets.__version__", version)
    Reader.install(connection.protocol, connection.put_inbox(), connection.protocol.conn.state)
    assert "data_received" not in vars(connection.protocol)
    await connection.end()


async def test_a_connection_that_is_gone_is_freed_at_once() -> None:
    connection = await Connection.open(reader=True)
    protocol = connection.protocol
    connection.protocol.data_received(text("x"))
    await connection.end()
    protocol.connection_lost(None)
    gone = weakref.ref(protocol)
    gc.disable()
    try:
        del connection, protocol
        await asyncio.sleep(0)
        assert gone() is None
    finally:
        gc.enable()


class _Own(WebSocket):
    async def receive(self) -> Any:
        return await super().receive()


@pytest.mark.parametrize("kind", ["starlettes", "a subclass", "patched", "not accepted"])
async def test_only_starlettes_own_receive_is_cut_short(kind: str) -> None:
    websocket = (_Own if kind == "a subclass" else WebSocket)(
        {"type": "websocket"}, _connected, _ignore
    )
    if kind != "not accepted":
        await websocket.accept()
    if kind == "patched":
        websocket.receive = _connected  # type: ignore[method-assign]
    assert has_starlettes_receive(websocket) is (kind == "starlettes")


async def _connected() -> Any:
    return {"type": "websocket.connect"}


async def _ignore(_: Any) -> None: ...
