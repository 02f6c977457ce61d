"""A worker among Node servers: when it is counted, what it hears, and that it answers once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from fastapi_rooms import (
    AdapterUnavailable,
    RequestRefused,
    RequestTimeout,
    RoomManager,
    SocketIO,
)
from fastapi_rooms.core.target import Target
from fastapi_rooms.socketio.adapter import SocketIOAdapter
from fastapi_rooms.socketio.responder import MAX_RUNNING
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire.socketio import msgpack
from fastapi_rooms.worker.peer_run import PeerRun
from tests.unit.socketio_support import REQUESTS, RESPONSES, SharedAdapter
from tests.unit.support import OTHER_NODE

OWN_CHANNEL = b"socket.io-response#/#abcdef#"


@pytest_asyncio.fixture
async def adapter() -> SharedAdapter:
    return SharedAdapter()


@pytest_asyncio.fixture
async def rooms(adapter: SharedAdapter) -> AsyncIterator[RoomManager]:
    async with RoomManager(adapter, socketio=SocketIO(), drain_timeout=0.2) as rooms:
        yield rooms


@pytest_asyncio.fixture
async def ann(rooms: RoomManager) -> AsyncIterator[Member]:
    async with Member(rooms, "red", sid="ann", data={"name": "Ann"}) as member:
        yield member


# Being counted.


async def test_it_is_counted_while_it_can_publish(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert REQUESTS in adapter.subscribed
    adapter.connected(False)
    assert REQUESTS not in adapter.subscribed
    adapter.connected(True)
    assert REQUESTS in adapter.subscribed


async def test_it_is_not_counted_before_it_is_ready(adapter: SharedAdapter) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO())
    adapter.start_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        await rooms.start()
    adapter.connected(True)
    assert not adapter.subscribed
    assert not adapter.withdrawals


async def test_who_leaves_answers_until_the_carrier_has_confirmed_it(
    adapter: SharedAdapter,
) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO())
    await rooms.start()
    adapter.withdrawn.clear()
    stopping = asyncio.create_task(rooms.stop())
    await eventually(lambda: adapter.withdrawals)
    closed_before = adapter.closes
    adapter.is_asked(requestId="late", type=5, opts={"rooms": [], "except": []})
    await eventually(lambda: adapter.answers)
    assert adapter.answers == [{"requestId": "late", "sockets": []}] * 2
    adapter.withdrawn.set()
    await stopping
    assert (closed_before, adapter.closes) == (0, 1)
    assert adapter.patterns == []


async def test_a_carrier_that_does_not_confirm_holds_nobody_up(adapter: SharedAdapter) -> None:
    rooms = RoomManager(adapter, socketio=SocketIO(), drain_timeout=0.05)
    await rooms.start()
    adapter.withdrawn.clear()
    await rooms.stop()
    assert adapter.closes == 1


@pytest.mark.parametrize("mode", ["send", "receive"])
async def test_only_peers_are_counted(adapter: SharedAdapter, mode: Any) -> None:
    async with RoomManager(adapter, socketio=SocketIO(mode=mode)) as rooms:
        adapter.connected(True)
        assert REQUESTS not in adapter.subscribed
        assert len(adapter.patterns) == (mode == "receive")
        async with Member(rooms, "red"):
            assert (b"socket.io#/#red#" in adapter.subscribed) == (mode == "receive")
    assert not adapter.withdrawals


# Interest.


async def test_a_room_has_two_channels_and_a_sid_one_pattern(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    assert adapter.patterns == [f"socket.io#/#{rooms.node}.*".encode()]
    before = set(adapter.subscribed)
    async with Member(rooms, "red", f"{rooms.node}.looks like one"):
        new = adapter.subscribed - before
        assert {channel for channel in new if channel.startswith(b"socket.io")} == {
            b"socket.io#/#",
            b"socket.io#/#red#",
        }
        assert b"rooms#/#red#" in new


async def test_a_namespace_that_is_not_shared_has_its_own_channels_only(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    before = set(adapter.subscribed)
    async with Member(rooms.of("/private"), "red"):
        new = adapter.subscribed - before
    assert not [channel for channel in new if channel.startswith(b"socket.io")]
    await rooms.of("/private").to("red").send_text("x")
    assert adapter.once == []


async def test_both_channels_are_left_when_a_room_is(adapter: SharedAdapter) -> None:
    async with RoomManager(adapter, socketio=SocketIO(), linger=0) as rooms:
        async with Member(rooms, "red"):
            assert b"socket.io#/#red#" in adapter.subscribed
        await eventually(lambda: b"rooms#/#red#" not in adapter.subscribed)
        assert b"socket.io#/#red#" not in adapter.subscribed


class Deaf:
    """Takes nothing of what Node servers send."""

    def received(self, channel: bytes, data: bytes) -> None: ...

    def connection_changed(self, connected: bool) -> None: ...


def test_a_room_is_live_when_both_its_channels_are(adapter: SharedAdapter) -> None:
    both = SocketIOAdapter(adapter, SocketIO())
    both.attach(OTHER_NODE, Deaf())
    adapter.subscribed = {b"rooms#/#red#"}
    assert not both.is_live(b"rooms#/#red#")
    adapter.subscribed.add(b"socket.io#/#red#")
    assert both.is_live(b"rooms#/#red#")


async def test_who_is_let_in_while_the_carrier_is_away_wants_both_channels(
    adapter: SharedAdapter,
) -> None:
    settings = SocketIO()
    async with RoomManager(adapter, socketio=settings, when_unavailable="admit") as rooms:
        adapter.health = replace(adapter.health, connected=False)
        async with Member(rooms, "red"):
            assert {b"rooms#/#red#", b"socket.io#/#red#"} in adapter.wanted
        adapter.health = replace(adapter.health, connected=True)


# Hearing.


async def test_an_event_reaches_the_members(ann: Member, adapter: SharedAdapter) -> None:
    adapter.emits("red", "news", 1)
    assert await ann.receive_json() == {"event": "news", "args": [1]}


async def test_what_our_own_workers_send_is_not_heard_twice(
    rooms: RoomManager, ann: Member, adapter: SharedAdapter
) -> None:
    await rooms.to("red").send_text("once")
    ((channel, data),) = adapter.once
    adapter.hears(channel, data)
    await rooms.to("red").send_text("end")
    assert await ann.receive_until("end") == ["once"]
    assert rooms.health.dropped == 0


async def test_what_makes_no_sense_is_dropped_and_counted(
    rooms: RoomManager, ann: Member, adapter: SharedAdapter
) -> None:
    nonsense = [b"", b"{}", b"\xc0", msgpack.pack(["u", {"type": 2}, {}])]
    for data in nonsense:
        adapter.hears(b"socket.io#/#red#", data)
    adapter.hears(REQUESTS, b"{")
    adapter.hears(REQUESTS, b'{"type":5}')
    assert rooms.health.dropped == 6
    adapter.hears(REQUESTS, b'{"type":99}')
    adapter.hears(RESPONSES, b"{")  # to nobody's question: it is not read
    adapter.hears(b"socket.io#/other#", b"")
    adapter.hears(b"socket.io", b"")
    assert rooms.health.dropped == 6
    adapter.emits("red", "end")
    assert await ann.receive_json() == {"event": "end", "args": []}


class Failing:
    """A codec with an error in it."""

    def to_native(self, event: str, args: list[Any]) -> str:
        raise KeyError(event)

    def to_event(self, message: str | bytes) -> list[Any]:
        raise KeyError(message)


async def test_a_codec_that_fails_stops_nothing(
    adapter: SharedAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        RoomManager(adapter, socketio=SocketIO(codec=Failing())) as rooms,
        Member(rooms, "red") as member,
    ):
        adapter.emits("red", "x")
        assert rooms.health.dropped == 1
        assert "could not be delivered" in caplog.text
        with pytest.raises(KeyError):
            await rooms.to("red").send_text("x")
        with pytest.raises(KeyError):
            await rooms.to("red").emit("x")
        await rooms.local.send_text("end")
        assert (await member.receive_until("end"))[:1] == ["x"]


# Answering.


async def answer_to(adapter: SharedAdapter, **request: Any) -> dict[str, Any]:
    """The one answer to a request."""
    adapter.once.clear()
    adapter.listeners[OWN_CHANNEL] = 1
    adapter.is_asked(requestId="q", **request)
    await eventually(lambda: adapter.answers)
    (answer,) = adapter.answers
    return answer


async def test_every_question_is_answered_once(ann: Member, adapter: SharedAdapter) -> None:
    rooms = {"rooms": ["red"], "except": []}
    fetched = await answer_to(adapter, type=5, opts=rooms)
    assert [(s["id"], sorted(s["rooms"]), s["data"]) for s in fetched["sockets"]] == [
        ("ann", ["ann", "red"], {"name": "Ann"})
    ]
    nobody = await answer_to(adapter, type=5, opts={"rooms": ["red"], "except": ["ann"]})
    assert nobody == {"requestId": "q", "sockets": []}
    assert (await answer_to(adapter, type=0, rooms=[]))["sockets"] == ["ann"]
    assert sorted((await answer_to(adapter, type=1))["rooms"]) == ["ann", "red"]
    packet = {"type": 2, "data": ["e"], "nsp": "/"}
    counted = await answer_to(adapter, type=7, packet=packet, opts=rooms)
    assert counted == {"requestId": "q", "type": 8, "clientCount": 0}
    assert await ann.receive_json() == {"event": "e", "args": []}


async def test_a_broadcast_that_makes_no_sense_is_answered_all_the_same(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    counted = await answer_to(adapter, type=7, packet={"type": 1}, opts={})
    assert counted["clientCount"] == 0
    assert rooms.health.dropped == 1


async def test_an_older_server_is_answered_on_the_channel_of_all(
    ann: Member, adapter: SharedAdapter
) -> None:
    adapter.is_asked(requestId="q", type=1)
    await eventually(lambda: len(adapter.once) == 2)
    assert [channel for channel, _ in adapter.once] == [OWN_CHANNEL, RESPONSES]


async def test_a_namespace_in_which_nobody_is_answers_too(adapter: SharedAdapter) -> None:
    settings = SocketIO(namespaces=["/", "/empty"])
    async with RoomManager(adapter, socketio=settings):
        adapter.listeners[b"socket.io-response#/empty#u#"] = 1
        for number, kind in enumerate((0, 1, 5, 6)):
            request = {"uid": "u", "requestId": f"{number}", "type": kind}
            request |= {"opts": {"rooms": []}, "data": ["e"]}
            adapter.hears(b"socket.io-request#/empty#", json.dumps(request).encode())
        await eventually(lambda: len(adapter.once) == 4)
        assert [json.loads(data) for _, data in adapter.once] == [
            {"requestId": "0", "sockets": []},
            {"requestId": "1", "rooms": []},
            {"requestId": "2", "sockets": []},
            {"requestId": "3", "type": 6, "data": None},
        ]
        for kind in (2, 3, 4):
            request = {"type": kind, "opts": {"rooms": []}, "rooms": ["x"]}
            adapter.hears(b"socket.io-request#/empty#", json.dumps(request).encode())


async def test_data_that_is_no_json_is_left_out_and_logged(
    rooms: RoomManager, adapter: SharedAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    async with Member(rooms, data={"x": object()}):
        fetched = await answer_to(adapter, type=5, opts={})
    assert [socket["data"] for socket in fetched["sockets"]] == [{}]
    assert "no JSON" in caplog.text


async def test_a_question_that_names_no_answer_is_dropped(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    adapter.is_asked(type=5, opts={})
    assert rooms.health.dropped == 1
    assert adapter.once == []


async def test_an_older_servers_command_is_answered_by_who_has_the_socket(
    ann: Member, adapter: SharedAdapter
) -> None:
    assert await answer_to(adapter, type=2, sid="ann", room="blue") == {"requestId": "q"}
    assert "blue" in ann.socket.rooms
    assert await answer_to(adapter, type=3, sid="ann", room="blue") == {"requestId": "q"}
    assert "blue" not in ann.socket.rooms
    adapter.once.clear()
    adapter.is_asked(requestId="q", type=2, sid="nobody", room="blue")
    assert await answer_to(adapter, type=4, sid="ann") == {"requestId": "q"}
    assert await ann.wait_closed() == 1000


async def test_handlers_answer_or_null(rooms: RoomManager, adapter: SharedAdapter) -> None:
    @rooms.on_server_side("sum")
    async def add(*numbers: int) -> int:
        return sum(numbers)

    @rooms.on_server_side("bad")
    def bad() -> object:
        return object()

    assert (await answer_to(adapter, type=6, data=["sum", 1, 2]))["data"] == 3
    assert (await answer_to(adapter, type=6, data=["sum", "x"]))["data"] is None
    assert (await answer_to(adapter, type=6, data=["bad"]))["data"] is None
    assert (await answer_to(adapter, type=6, data=["missing"]))["data"] is None


async def test_too_many_requests_at_a_time_are_dropped_and_counted(
    ann: Member, rooms: RoomManager, adapter: SharedAdapter
) -> None:
    adapter.hold()
    for number in range(MAX_RUNNING + 3):
        adapter.is_asked(requestId=str(number), type=1)
    assert rooms.health.dropped == 3
    adapter.release()


async def test_a_command_that_fails_is_logged(
    ann: Member, adapter: SharedAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    adapter.subscribe_error = AdapterUnavailable("the carrier is away")
    adapter.is_asked(type=2, opts={"rooms": []}, rooms=["blue"])
    await eventually(lambda: "the carrier is away" in caplog.text)
    assert "blue" not in ann.socket.rooms


async def test_a_worker_of_ours_that_asks_is_told_that_it_was_heard(
    rooms: RoomManager, adapter: SharedAdapter
) -> None:
    other = "rooms.0123456789abcdef"
    channel = f"socket.io-response#/#{other}#".encode()
    adapter.listeners[channel] = 1
    adapter.hears(REQUESTS, f'{{"uid":"{other}","requestId":"fedcba9876543210","type":1}}'.encode())
    await eventually(lambda: adapter.once)
    assert adapter.once == [(channel, b'{"own":1,"requestId":"fedcba9876543210"}')]
    adapter.hears(REQUESTS, f'{{"uid":"{other}","type":4,"opts":{{"rooms":[]}}}}'.encode())
    assert len(adapter.once) == 1


# Asking.


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
        assert len(adapter.once) == 1


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
