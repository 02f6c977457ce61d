"""Frames that whoever may publish can send to a running edge and backend: nobody is harmed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocket

from fastapi_rooms import AdapterUnavailable, RoomManager
from fastapi_rooms.core.parts import PART
from fastapi_rooms.core.placement import Turns
from fastapi_rooms.gateway import client as edge_client
from fastapi_rooms.servers.gateway.posting import post
from fastapi_rooms.testing import WebSocketClient, eventually
from fastapi_rooms.wire import gateway as wire
from fastapi_rooms.wire.gateway import Frame, FrameKind
from tests.unit.gateway.support import Site

bodies = st.binary(max_size=40) | st.sampled_from(
    [
        b"",
        wire.to_json({"subprotocol": None, "headers": [], "rooms": True}),
        wire.to_json({"id": 1, "verb": "enter", "namespace": "/", "sid": "x", "data": {}}),
        wire.to_json({"id": 1, "verb": "join", "namespace": "/", "rooms": ["room"]}),
        wire.to_json({"id": 0, "verb": "exit", "namespace": "/"}),
        wire.to_json({"id": 0, "verb": "leave", "namespace": "/", "rooms": [1]}),
        wire.to_json({"id": 1, "error": "rooms"}),
        wire.to_json({"event": "leave-room", "namespace": "/", "room": "room"}),
        wire.to_json({"event": "rooms", "namespace": "/", "rooms": {"": 1, "\ud800": "x"}}),
        wire.to_json({"event": "rooms", "namespace": "/", "rooms": ["room"]}),
        wire.to_json({"role": "edge", "leaving": 0, "hello": 1}),
        wire.pack_close(4000, "forged"),
        wire.pack_credit(2**32 - 1, 1),
        wire.pack_release(2**32 - 1),
        wire.pack_deny(403, [], b""),
        b"\x05begins",
        b"\x06ends",
        wire.pack_mark(2**63),
        wire.pack_arrived(2**63, 0),
    ]
)
sequences = st.integers(0, 9) | st.just(2**32 - 1)
SIDES = ["edge", "backend"]
forged = st.tuples(st.sampled_from(FrameKind), st.integers(0, 3), sequences, bodies)


async def echo(rooms: RoomManager, websocket: WebSocket) -> None:
    async with rooms.connect(websocket) as socket:
        await socket.join("room")
        async for text in socket.iter_text():
            await socket.send_text(text)


@settings(max_examples=50, deadline=None)
@given(st.lists(forged, max_size=30))
async def test_frames_of_others_harm_no_client(
    frames: list[tuple[FrameKind, int, int, bytes]],
) -> None:
    """Those of unknown connections, and of known ones in the name of somebody else."""
    async with AsyncExitStack() as stack:
        site = Site(stack)
        edge = await site.edge()
        backend = await site.backend(echo)
        forger = await site.peer()
        async with WebSocketClient(edge, "/") as client:
            await client.send_text("before")
            assert await client.receive() == "before"
            (connection,) = edge._conversations
            for kind, number, sequence, body in frames:
                if kind is FrameKind.OPEN:
                    continue  # who opens an endpoint has one
                known = connection if number else b"\xff" * 8
                for to in (edge.manager.node, backend.manager.node):
                    forger.forge(to, Frame(kind, forger.node, known, sequence, body))
            await client.send_text("after")
            assert await client.receive() == "after"
            assert edge._conversations.keys() == {connection}
            assert len(backend._connections) == 1
            assert client.close_code is None
            assert client.unread == []


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=6),
    st.sampled_from(SIDES),
    st.sampled_from([9, PART + 1, 3 * PART]),
)
async def test_frames_that_are_lost_doubled_or_reordered_cost_an_endpoint_and_no_client(
    breaks: list[tuple[int, int]], side: str, length: int
) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(edge_client, "RETRY", 0.02))
        site = Site(stack)
        edge = await site.edge()
        edge.turns = Turns(rate=1e6)  # it does not wait
        backend = await site.backend(echo)
        frames = (edge if side == "edge" else backend).frames
        publish, held, sent, how = frames.publish, [], 0, dict(breaks)

        def breaking(to: str | None, frame: Frame) -> object:
            nonlocal sent
            if frame.kind is FrameKind.BEAT:
                return publish(to, frame)
            sent += 1
            what = how.pop(sent, None)
            if (
                what == 0 and side == "edge"
            ):  # lost, as the carrier has found; endpoints would raise
                return _refused()
            if what == 1:  # later than the next
                held.append((to, frame))
                asyncio.get_running_loop().call_later(0.01, release)
                return _nothing()
            if what == 2:
                post(publish(to, frame))
            done = publish(to, frame)
            release()
            return done

        def release() -> None:
            while held:
                post(publish(*held.pop()))

        frames.publish = breaking  # type: ignore[assignment, method-assign]  # a bad carrier
        async with WebSocketClient(edge, "/") as client:
            heard: list[str | bytes] = []

            async def hears() -> bool:
                await client.send_text(f"{len(heard)}".zfill(length))
                heard.append("said")
                return bool(client.unread)

            await eventually(hears)
            assert client.close_code is None
            assert all(str(text).isdigit() and len(text) == length for text in client.unread)
        await eventually(lambda: not backend._connections)
        assert edge.manager.sids == {}


async def _nothing() -> None:
    """It is not sent yet."""


async def _refused() -> None:
    raise AdapterUnavailable("away")
