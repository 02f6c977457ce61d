"""What a worker does for others that ask: the part of each verb that is done on one worker."""

from __future__ import annotations

import asyncio
from inspect import isawaitable
from typing import Any

import orjson
import pytest

from fastapi_rooms import AdapterUnavailable, MessageTooLarge, RoomManager, UsageError
from fastapi_rooms.cluster.commands import COMMANDS, EMPTY_NAMESPACE, CommandTarget, bytes_of
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Cluster, Member, eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Request
from fastapi_rooms.wire.verbs import Verb
from tests.unit.support import OTHER_NODE, WORKERS, FakeAdapter, channel_of

EVERYONE = Target()


def tell(adapter: FakeAdapter, number: int, verb: str, target: Target, rooms: list[str]) -> None:
    """What another worker, or an emitter, asks for without wanting an answer."""
    request = Request(OTHER_NODE, number, "/", target, 0, verb, {"rooms": rooms})
    assert adapter.receiver is not None
    adapter.receiver.received(WORKERS, codec.encode(request))


async def test_who_joins_is_decided_before_the_next_request_makes_them_leave() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter) as rooms, Member(rooms, "tea", sid="ann") as ann:
        tell(adapter, 1, "join", Target(("tea",)), ["coffee"])
        tell(adapter, 2, "leave", Target(("tea",)), ["tea"])
        assert ann.socket.rooms == {"ann"}
        await eventually(lambda: ann.socket.rooms == {"ann", "coffee"}, what="she has moved")


async def test_a_worker_where_nobody_joins_subscribes_to_nothing() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, linger=60) as rooms, Member(rooms, "tea"):
        await rooms.to("nowhere").sockets_join("coffee")
        assert channel_of("coffee") not in adapter.subscribed
        await rooms.to("tea").sockets_join("coffee")
        assert channel_of("coffee") in adapter.subscribed


async def test_a_verb_takes_no_longer_than_its_timeout() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, join_timeout=600)
    async with rooms, Member(rooms, "tea"):
        adapter.hold()
        with pytest.raises(
            AdapterUnavailable, match=r"'join' was not done on this worker in 0.01 s"
        ):
            await rooms.sockets_join("coffee", timeout=0.01)
        adapter.release()
        assert "coffee" not in rooms.rooms


async def test_an_event_can_be_no_longer_than_a_message() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, max_message_bytes=40) as rooms:
        before = len(adapter.hellos)
        for emit in (rooms.server_side_emit, rooms.server_side_emit_with_ack):
            with pytest.raises(MessageTooLarge):
                await emit("reload", "x" * 40)
        assert len(adapter.hellos) == before
        await rooms.server_side_emit("reload", "x")
        assert len(adapter.hellos) == before + 1


# Every verb has a command.


def test_every_verb_has_a_command_and_every_command_a_verb() -> None:
    assert set(COMMANDS) == set(Verb)


@pytest.mark.parametrize(
    ("verb", "arguments", "answer"),
    [
        (Verb.FETCH, {}, []),
        (Verb.COUNT, {}, 0),
        (Verb.JOIN, {"rooms": ["tea"]}, None),
        (Verb.LEAVE, {"rooms": ["tea"]}, None),
        (Verb.DISCONNECT, {"code": 1000, "reason": ""}, None),
        (Verb.ROOMS, {}, []),
    ],
)
async def test_a_namespace_that_is_not_here_has_nobody_and_nothing(
    verb: Verb, arguments: dict[str, Any], answer: object
) -> None:
    assert await _run(verb, EMPTY_NAMESPACE, **arguments) == answer
    if verb is not Verb.ROOMS:
        assert await _run(verb, EMPTY_NAMESPACE, **arguments, sid="ann") == answer


def test_a_namespace_that_is_not_here_handles_nothing_and_knows_of_no_worker() -> None:
    with pytest.raises(UsageError, match="no handler of 'reload' here"):
        COMMANDS[Verb.EMIT](EMPTY_NAMESPACE, Target(), {"event": "reload", "args": []})
    with pytest.raises(UsageError, match="by its namespace `/` only"):
        COMMANDS[Verb.DESCRIBE](EMPTY_NAMESPACE, Target(), {})


async def test_rooms_can_be_asked_for_without_those_of_sids_and_so_many_at_most(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    here = rooms._here
    assert set(await _run(Verb.ROOMS, here)) == {"ann", "bob", "cid", "lobby", "bar"}
    assert set(await _run(Verb.ROOMS, here, sids=False, limit=2)) == {"lobby", "bar"}
    assert len(await _run(Verb.ROOMS, here, sids=False, limit=1)) == 1
    assert await _run(Verb.ROOMS, here, limit=0) == []


async def _run(
    verb: Verb, namespace: CommandTarget[Any], target: Target = EVERYONE, **arguments: Any
) -> Any:
    """What a command answers, as whoever asks gets it."""
    result = COMMANDS[verb](namespace, target, arguments)
    return orjson.loads(bytes_of(await result if isawaitable(result) else result))


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        (Verb.JOIN, {}),
        (Verb.JOIN, {"rooms": "tea"}),
        (Verb.JOIN, {"rooms": [""]}),
        (Verb.JOIN, {"rooms": [5]}),
        (Verb.LEAVE, {"rooms": None}),
        (Verb.LEAVE, {"rooms": {"tea": 1}}),
        (Verb.FETCH, {"sid": ""}),
        (Verb.COUNT, {"sid": 5}),
        (Verb.DISCONNECT, {}),
        (Verb.DISCONNECT, {"code": 1005, "reason": ""}),
        (Verb.DISCONNECT, {"code": 1000}),
        (Verb.DISCONNECT, {"code": 1000, "reason": "x" * 124}),
        (Verb.ROOMS, {"limit": -1}),
        (Verb.ROOMS, {"limit": True}),
        (Verb.ROOMS, {"sids": None}),
        (Verb.EMIT, {}),
        (Verb.EMIT, {"event": "reload"}),
        (Verb.EMIT, {"event": 5, "args": []}),
        (Verb.EMIT, {"event": "reload", "args": {}}),
    ],
    ids=repr,
)
def test_arguments_that_make_no_sense_are_refused_at_once(
    verb: Verb, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        COMMANDS[verb](EMPTY_NAMESPACE, Target(), arguments)


# Sockets, over every worker.


async def test_commands_reach_the_sockets_of_every_worker() -> None:
    async with (
        Cluster(workers=2) as (one, two),
        Member(one, "tea", sid="ann", data={"n": 1}),
        Member(two, "tea", sid="bob", data={"n": 2}) as bob,
        Member(two, sid="cid"),
    ):
        found = await one.to("tea").fetch_sockets()
        assert {(s.sid, s.node, s.data["n"]) for s in found} == {
            ("ann", one.node, 1),
            ("bob", two.node, 2),
        }
        assert await one.count() == 3
        await one.to("tea").except_("ann").sockets_join("coffee")
        assert bob.socket.rooms == {"bob", "tea", "coffee"}
        await two.to("tea").sockets_leave("tea")
        assert await two.all_rooms() == {"ann", "bob", "cid", "coffee"}
        await one.to("coffee").disconnect_sockets(4001, "out")
        assert await bob.wait_closed() == 4001
        assert bob.close_reason == "out"


async def test_one_socket_of_another_worker_can_be_acted_on() -> None:
    async with Cluster(workers=2) as (one, two), Member(two, "tea", sid="ann") as ann:
        [found] = await one.fetch_sockets()
        assert (found.sid, found.node) == ("ann", two.node)
        assert found.rooms == ("ann", "tea")
        await found.join("coffee")
        await found.leave("tea")
        assert ann.socket.rooms == {"ann", "coffee"}
        await found.send_text("hello")
        assert await ann.receive_text() == "hello"
        await found.disconnect(4001, "out")
        assert await ann.wait_closed() == 4001
        await found.join("tea")  # it is gone, and nothing happens
        assert two.rooms == {}


async def test_data_that_is_not_json_is_left_out_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        RoomManager() as rooms,
        Member(rooms, sid="ann", data={"a": object()}),
        Member(rooms, sid="bob", data={"b": 1}),
        Member(rooms, sid="cid", data={"c": object()}),
    ):
        found = {socket.sid: socket.data for socket in await rooms.fetch_sockets()}
    assert found == {"ann": {}, "bob": {"b": 1}, "cid": {}}
    [record] = caplog.records
    assert "The data of 2 sockets is no JSON" in record.getMessage()
    assert "ann" in record.getMessage()


async def test_sockets_of_a_draining_worker_join_nothing_and_nobody_is_told_of_an_error() -> None:
    async with RoomManager(drain_timeout=600) as rooms, Member(rooms, "tea") as ann:
        ann.stall()
        await rooms.send_text("so that it cannot be closed yet")
        draining = asyncio.create_task(rooms.drain())
        await eventually(lambda: not rooms.health.ready)
        await rooms.local.sockets_join("coffee")
        assert "coffee" not in rooms.rooms
        ann.resume()
        await draining


async def test_a_socket_that_leaves_while_it_is_to_join_is_passed_over() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, linger=0) as rooms, Member(rooms, "tea", sid="bob") as bob:
        async with Member(rooms, "tea", sid="ann"):
            adapter.hold()
            joining = asyncio.ensure_future(rooms.local.sockets_join("coffee"))
            await eventually(lambda: adapter.waiting)
        adapter.release()
        await joining
        assert rooms.rooms["coffee"] == {"bob"}
        assert bob.socket.rooms == {"bob", "tea", "coffee"}


async def test_sockets_that_have_left_are_passed_over_by_leave_and_disconnect() -> None:
    async with RoomManager() as rooms:
        async with Member(rooms, "tea", sid="ann") as ann:
            former = ann.socket
        async with Member(rooms, "tea", sid="ann") as present:
            rooms._here.leave_all([former], ("tea",))
            await rooms._here.disconnect_all([former], 4001, "")
            assert present.socket.rooms == {"ann", "tea"}
