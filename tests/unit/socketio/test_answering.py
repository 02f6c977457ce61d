"""What Node servers ask is answered once, whoever asks it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    RoomManager,
    SocketIO,
)
from fastapi_rooms.socketio.responder import MAX_RUNNING
from fastapi_rooms.testing import Member, eventually
from tests.unit.socketio_support import REQUESTS, RESPONSES, SharedAdapter

OWN_CHANNEL = b"socket.io-response#/#abcdef#"


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


async def test_one_answer_is_made_at_a_time_of_what_is_there_when_its_turn_comes(
    ann: Member, adapter: SharedAdapter
) -> None:
    adapter.listeners[OWN_CHANNEL] = 1
    adapter.hold()
    adapter.is_asked(requestId="sent", type=1)
    await eventually(lambda: adapter.waiting)
    adapter.is_asked(requestId="fetch", type=5, opts={"rooms": ["red"], "except": []})
    adapter.is_asked(requestId="sids", type=0, rooms=["red"])
    adapter.is_asked(requestId="rooms", type=1)
    await asyncio.sleep(0)  # all have begun
    assert adapter.waiting == 1
    await ann.socket.leave("red")
    adapter.release()
    await eventually(lambda: len(adapter.answers) == 4)
    assert adapter.answers[1:] == [
        {"requestId": "fetch", "sockets": []},
        {"requestId": "sids", "sockets": []},
        {"requestId": "rooms", "rooms": ["ann"]},
    ]


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
