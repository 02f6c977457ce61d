"""Whatever is published on Socket.IO's channels: a message, or dropped and counted."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_rooms import MalformedEnvelope, RoomManager, SocketIO
from fastapi_rooms.testing import Member
from fastapi_rooms.wire.socketio import msgpack, packets, requests, responses
from fastapi_rooms.wire.socketio.events import Events
from fastapi_rooms.wire.socketio.requests import Kind
from fastapi_rooms.wire.socketio.values import pack_event
from tests.unit.socketio_support import REQUESTS, RESPONSES, SharedAdapter

_text = st.text(st.characters(codec="utf-8"), max_size=8)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | _text
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_text | st.integers(0, 9) | st.booleans(), inner, max_size=4)
    ),
    max_leaves=12,
)
_names = st.lists(st.sampled_from(["red", "ann", "", "x" * 300, 42, 1.5]), max_size=3) | _values
_packets = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([2, 5, 1, "2"]) | _values,
        "data": st.lists(_values, max_size=3) | st.just(["e"]) | _values,
        "nsp": st.sampled_from(["/", "/chat"]) | _values,
    },
)
_opts = st.fixed_dictionaries(
    {}, optional={"rooms": _names, "except": _names, "flags": st.just({"volatile": True}) | _values}
)
_broadcasts = st.tuples(_values, _packets | _values, _opts | _values).map(list) | _values
_requests = st.fixed_dictionaries(
    {"type": st.integers(0, 8) | _values},
    optional={
        "uid": st.sampled_from(["abcdef", "rooms.0123456789abcdef"]) | _values,
        "requestId": st.just("q") | _values,
        "opts": _opts | _values,
        "rooms": _names,
        "data": st.lists(_values, max_size=3) | st.just(["known", 1]) | _values,
        "packet": _packets | _values,
        "sid": st.just("ann") | _values,
        "room": st.just("red") | _values,
        "close": st.booleans(),
    },
)
_answers = st.fixed_dictionaries(
    {"requestId": st.just("q") | _values},
    optional={
        "sockets": st.lists(_opts | _values, max_size=3) | _values,
        "rooms": _names,
        "data": _values,
        "type": st.integers(0, 9),
    },
)


def _json(value: Any) -> bytes:
    return json.dumps(value, default=repr).encode(errors="replace")


def _packed(value: Any) -> bytes:
    return msgpack.pack(value)


_cut = st.tuples(st.integers(0, 40), st.binary(max_size=3))


def _damaged(data: bytes, cut: tuple[int, bytes]) -> bytes:
    place, instead = cut
    return data[:place] + instead + data[place + len(instead) :]


def _bytes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    whole = values.map(_packed) | values.map(_json)
    return whole | st.builds(_damaged, whole, _cut) | st.binary(max_size=60)


channels = st.sampled_from(
    [REQUESTS, RESPONSES, b"socket.io#/#", b"socket.io#/#red#", b"socket.io#/x#", b"socket.io#"]
)


@given(_bytes(_broadcasts))
def test_a_broadcast_is_malformed_or_can_be_had_natively(data: bytes) -> None:
    try:
        message = packets.decode(data, "/")
    except MalformedEnvelope:
        return
    if message is not None:
        payload = packets.native_payload(message.event, Events())
        assert payload is not None
        if not payload.binary:
            assert payload.text.encode() == payload.data
        assert message.target.rooms is None or "" not in message.target.rooms


@given(_bytes(_requests))
def test_a_request_is_malformed_or_understood(data: bytes) -> None:
    with suppress(MalformedEnvelope):
        requests.decode(data)


@given(_bytes(_answers), st.sampled_from([Kind.FETCH, Kind.SOCKETS, Kind.ALL_ROOMS]))
def test_an_answer_is_malformed_or_understood(data: bytes, kind: Kind) -> None:
    with suppress(MalformedEnvelope):
        responses.decode(data, kind)


@given(st.text(max_size=60) | _values.map(_json).map(bytes.decode) | st.binary(max_size=10))
def test_any_message_of_ours_becomes_an_event(message: str | bytes) -> None:
    event = Events().to_event(message)
    assert isinstance(event[0], str)
    assert msgpack.unpack(pack_event(event, lossy=True))[0] == (
        event[0].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(channels, _bytes(_broadcasts) | _bytes(_requests) | _bytes(_answers)), max_size=8
    )
)
def test_a_worker_takes_whatever_comes_and_hears_what_follows(
    received: list[tuple[bytes, bytes]],
) -> None:
    asyncio.run(everything_is_taken(received))


async def everything_is_taken(received: list[tuple[bytes, bytes]]) -> None:
    adapter = SharedAdapter()
    rooms = RoomManager(adapter, socketio=SocketIO())

    @rooms.on_server_side("known")
    def known(*args: Any) -> list[Any]:
        return list(args)

    async with rooms, Member(rooms, "blue") as bob:
        for channel, data in received:
            adapter.hears(channel, data)
        if bob.close_code is None and bob.socket.rooms:
            adapter.emits("end", "x")
        async with Member(rooms, "late") as late:
            adapter.emits("late", "end")
            assert await late.receive_json() == {"event": "end", "args": []}
