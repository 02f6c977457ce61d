"""What is asked of Node servers, and how many answers are waited for."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    NotStarted,
    RequestRefused,
    RequestTimeout,
    RoomManager,
    SocketIO,
)
from fastapi_rooms.core.target import Target
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import COUNT
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.wire.socketio.requests import Kind
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.peer_run import PeerRun
from fastapi_rooms.worker.shared_requests import request_both
from tests.unit.socketio_support import REQUESTS, RESPONSES, SharedAdapter


async def asked(adapter: SharedAdapter) -> dict[str, Any]:
    """The question that is under way."""
    await eventually(lambda: adapter.once)
    request: dict[str, Any] = json.loads(adapter.once[-1][1])
    return request


async def test_as_many_answers_are_waited_for_as_there_are_subscribers(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    adapter.subscribers = 3
    counting = asyncio.create_task(rooms.count())
    question = await asked(adapter)
    assert RESPONSES in adapter.subscribed
    adapter.hears(REQUESTS, adapter.once[-1][1])  # it is one of them itself
    answer = {"requestId": question["requestId"], "sockets": ["a", "b"]}
    adapter.hears(RESPONSES, json.dumps({**answer, "requestId": "other"}).encode())
    adapter.hears(RESPONSES, json.dumps(answer).encode())
    assert not counting.done()
    other = {"requestId": question["requestId"], "own": 1}  # a worker, which answers natively
    adapter.hears(RESPONSES, json.dumps(other).encode())
    assert await counting == 2
    assert RESPONSES not in adapter.subscribed
    assert rooms.health.dropped == 0


async def test_an_answer_that_makes_no_sense_is_no_answer(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    adapter.subscribers = 2
    fetching = asyncio.create_task(rooms.fetch_sockets(timeout=0.1))
    question = await asked(adapter)
    sockets = [{"id": "s", "rooms": ["s"], "data": {}}]
    answer = {"requestId": question["requestId"], "sockets": sockets}
    adapter.hears(RESPONSES, json.dumps(answer).encode())
    adapter.hears(RESPONSES, json.dumps({**answer, "sockets": [5]}).encode())
    with pytest.raises(RequestTimeout) as silent:
        await fetching
    assert silent.value.unidentified == 1
    assert [socket.sid for socket in silent.value.partial] == ["s"]
    assert rooms.health.dropped == 1


async def test_nobody_is_asked_about_nobody(rooms: RoomManager, adapter: SharedAdapter) -> None:
    await rooms.to().sockets_join("x")
    await rooms.to().disconnect_sockets()
    assert await rooms.to().fetch_sockets() == []
    await rooms.to().emit("x")
    assert adapter.once == []


async def test_a_carrier_that_is_away_fails_the_question(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    adapter.hold()
    with pytest.raises(AdapterUnavailable):
        await rooms.count(timeout=0.05)
    adapter.release()


async def test_who_asks_when_the_manager_closes_is_told(adapter: SharedAdapter) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO())
    await rooms.start()
    adapter.subscribers = 2
    counting = asyncio.create_task(rooms.count())
    await asked(adapter)
    await rooms.stop()
    with pytest.raises(Exception, match="not running"):
        await counting


async def test_who_is_cancelled_before_the_workers_are_asked_leaves_nothing_unawaited(
    rooms: RoomManager,
) -> None:
    async def ask_workers() -> int:
        raise AssertionError("they are not asked")

    assert isinstance(rooms._runtime.run, PeerRun)
    native = ask_workers()
    request = ClusterRequest(Verb.COUNT, Target(), {})
    asking = asyncio.ensure_future(
        request_both(rooms._runtime.run.peer, "/", request, COUNT, 1.0, native)
    )
    await asyncio.sleep(0)
    assert inspect.getcoroutinestate(native) == inspect.CORO_CREATED
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert inspect.getcoroutinestate(native) == inspect.CORO_CLOSED


async def test_who_asks_after_the_manager_has_begun_to_close_is_told_at_once(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert isinstance(rooms._runtime.run, PeerRun)
    peer = rooms._runtime.run.peer
    await peer.close(0.2)
    adapter.subscribers = 2
    with pytest.raises(NotStarted):
        await peer.ask("/", Kind.SOCKETS, Target(), 0.2)
    assert adapter.once == []


async def test_a_failed_delivery_elsewhere_is_raised_and_local_members_have_it(
    rooms: RoomManager, ann: Member, adapter: SharedAdapter
) -> None:
    adapter.publish_error = AdapterUnavailable("lost")
    with pytest.raises(AdapterUnavailable) as error:
        await rooms.to("red").send_text("x")
    assert error.value.manager is rooms
    assert await ann.receive_text() == "x"


async def test_what_only_says_asks_nothing(adapter: SharedAdapter) -> None:
    async with RoomManager(adapter, socketio=SocketIO(mode="send")) as rooms, Member(rooms):
        assert await rooms.count() == 1
        assert len(await rooms.workers()) == 1
        assert adapter.once == []
        await rooms.sockets_join("x")
        await rooms.server_side_emit("e", 1)
        assert [json.loads(data)["type"] for _, data in adapter.once] == [2, 6]
        await rooms.of("/private").server_side_emit("e", 1)
        assert len(adapter.once) == 2


async def test_what_is_refused_here_is_done_there_all_the_same(adapter: SharedAdapter) -> None:
    async with (
        RoomManager(adapter, socketio=SocketIO(), max_rooms_per_socket=1) as rooms,
        Member(rooms, "red"),
    ):
        with pytest.raises(RequestRefused):
            await rooms.sockets_join("blue")
        assert [json.loads(data)["type"] for _, data in adapter.once] == [2]


async def test_kept_messages_are_uncertain_when_node_cannot_be_told(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert isinstance(rooms._runtime.run, PeerRun)
    adapter.publish_error = AdapterUnavailable("lost")
    with pytest.raises(AdapterUnavailable) as error:
        await rooms._runtime.run.publish_after_keeping("/", Target(("red",)), b"\x91\xa1e")
    assert error.value.uncertain
    await rooms._runtime.run.publish_after_keeping("/private", Target(("red",)), b"\x91\xa1e")


async def test_handlers_of_other_namespaces_and_events_that_are_none(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    packet = {"type": 2, "data": ["e"], "nsp": "/other"}
    adapter.hears(b"socket.io#/#", msgpack.pack(["u", packet, {}]))
    adapter.is_asked(type=8)
    adapter.is_asked(type=7, packet={"type": 2, "data": ["e"]}, opts={})
    assert rooms.health.dropped == 0
    assert adapter.answers == []
