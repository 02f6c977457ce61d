"""A client with channels says anything: its own channels end by it, or its connection."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.errors import MalformedEnvelope
from fastapi_rooms.servers.mux import Channel, MuxConnection
from fastapi_rooms.transports import AsgiTransport
from fastapi_rooms.wire import mux as wire
from tests.unit.strategies import any_text

numbers = st.integers(0, 4) | st.sampled_from([127, 128, 65_535, 65_536])
values = st.none() | st.booleans() | st.integers(-2, 5_000) | any_text | st.lists(any_text)
fields = st.sampled_from(
    ["open", "credit", "close", "path", "bytes", "code", "protocols", "window"]
)
controls = st.one_of(
    st.builds(
        lambda number, path: {"open": number, "path": path},
        numbers,
        st.sampled_from(["/echo", "/refuse", "/fail", "x"]),
    ),
    st.builds(lambda number, size: {"credit": number, "bytes": size}, numbers, st.integers(0, 200)),
    st.builds(lambda number: {"close": number}, numbers),
    st.dictionaries(fields, values, max_size=3),
).map(lambda said: "0:" + json.dumps(said))
data = st.builds(lambda number, text: f"{number}:{text}", numbers, any_text)
binary = st.builds(lambda n, payload: wire.bytes_prefix(n) + payload, numbers, st.binary())
messages = st.lists(
    st.one_of(controls, controls, data, binary, st.text(), st.binary(max_size=5)), max_size=12
)


@given(st.text() | controls | data)
def test_a_text_is_malformed_or_read(text: str) -> None:
    with suppress(MalformedEnvelope):
        said = wire.read_text(text)
        assert 1 <= said.channel <= wire.MAX_CHANNEL
        if isinstance(said, wire.Data):
            assert f"{said.channel}:{said.payload!s}" == text


@given(st.binary(max_size=8))
def test_bytes_are_malformed_or_read(payload: bytes) -> None:
    with suppress(MalformedEnvelope):
        said = wire.read_bytes(payload)
        assert isinstance(said.payload, bytes)
        assert wire.bytes_prefix(said.channel) + said.payload == payload


@given(any_text, st.lists(any_text, max_size=3))
def test_what_a_channel_is_opened_for_is_a_scope_or_a_status(
    path: str, protocols: list[str]
) -> None:
    target = wire.target_of(wire.Open(1, path, tuple(protocols)))
    assert target in (400, 414) or isinstance(target, wire.Target)


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    websocket = WebSocket(scope, receive, send)
    await websocket.receive()
    if scope["path"] == "/refuse":
        await websocket.close()
        return
    await websocket.accept()
    if scope["path"] == "/fail":
        await websocket.close(4000)
        return
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        await websocket.send({**message, "type": "websocket.send"})


def _open_transport(
    websocket: WebSocket,
    policy: OutboxPolicy,
    on_overflow: Callable[[], None],
    on_lost: Callable[[], None],
) -> AsgiTransport:
    return AsgiTransport(websocket, policy, on_overflow, on_lost)


async def _converse(said: Sequence[str | bytes]) -> tuple[list[dict[str, Any]], MuxConnection]:
    incoming: list[Message] = [
        {"type": "websocket.receive", "text" if isinstance(one, str) else "bytes": one}
        for one in said
    ]
    outgoing: list[dict[str, Any]] = []

    async def receive() -> Message:
        await asyncio.sleep(0)
        return incoming.pop(0) if incoming else {"type": "websocket.disconnect", "code": 1001}

    async def send(message: Any) -> None:
        outgoing.append(message)

    scope = {"type": "websocket", "headers": [], "path": "/", "subprotocols": [wire.SUBPROTOCOL]}
    connection = MuxConnection(
        _application, scope, receive, send, max_channels=3, open_transport=_open_transport
    )
    await connection.run()
    return outgoing, connection


@given(messages)
async def test_whatever_is_said_nothing_is_left_and_every_channel_ends_once(
    said: list[str | bytes],
) -> None:
    outgoing, connection = await _converse(said)
    assert not connection._tasks
    assert connection.waiting == 0
    live: set[int] = set()
    for message in outgoing[1:]:
        if message["type"] == "websocket.close":
            assert message["code"] == 1002
            assert message is outgoing[-1]
            continue
        text = message.get("text")
        if text is not None and text.startswith("0:"):
            control = json.loads(text[2:])
            kind = next(iter(control))
            number = control[kind]
            if kind == "opened":
                assert number not in live
                live.add(number)
            elif kind == "closed":
                live.discard(number)
            elif kind == "denied":
                assert number not in live
            else:
                assert number in live
        else:
            number = wire.read_text(text) if text is not None else wire.read_bytes(message["bytes"])
            assert number.channel in live


async def test_a_connection_and_its_channels_are_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        _, connection = await _converse(['0:{"open":1,"path":"/echo"}', "1:x"])
        channels = [weakref.ref(one) for one in gc.get_objects() if isinstance(one, Channel)]
        freed = weakref.ref(connection)
        del connection
        await asyncio.sleep(0)
        assert freed() is None
        assert [one() for one in channels] == [None] * len(channels)
    finally:
        gc.enable()
