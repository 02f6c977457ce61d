"""A namespace: its views, and what else it is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastapi_rooms import RoomManager
from fastapi_rooms.operators.broadcast import BroadcastOperator
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter, all_is_over


async def test_the_views_show_rooms_and_sids_of_this_worker(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    assert rooms.rooms == {
        "ann": {"ann"},
        "bob": {"bob"},
        "cid": {"cid"},
        "lobby": {"ann", "bob"},
        "bar": {"ann"},
    }
    assert rooms.sids == {
        "ann": {"ann", "lobby", "bar"},
        "bob": {"bob", "lobby"},
        "cid": {"cid"},
    }


async def test_the_views_are_live_and_an_empty_room_is_gone_at_once(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    views = rooms.rooms, rooms.sids
    await people["ann"].socket.leave("bar", "lobby")
    assert "bar" not in views[0]
    assert views[0]["lobby"] == {"bob"}
    assert views[1]["ann"] == {"ann"}


async def test_the_views_cannot_be_written_to(rooms: RoomManager) -> None:
    view: Any = rooms.rooms
    with pytest.raises(TypeError):
        view["lobby"] = {"eve"}


async def test_namespaces_know_nothing_of_each_other(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    chat = rooms.of("/chat")
    async with Member(rooms, "lobby", sid="ann") as ann, Member(chat, "lobby", sid="ann") as other:
        assert rooms.sids == chat.sids == {"ann": {"ann", "lobby"}}
        await rooms.to("lobby").send_text("in /")
        await chat.to("lobby").send_text("in /chat")
        await rooms.send_text("everyone in /")
        await chat.to("ann").send_text("ann in /chat")
        assert [await ann.receive_text() for _ in range(2)] == ["in /", "everyone in /"]
        assert [await other.receive_text() for _ in range(2)] == ["in /chat", "ann in /chat"]
        assert ann.unread == other.unread == []
        channels = [channel for channel, _ in adapter.published]
        assert channels == [
            b"rooms#/#lobby#",
            b"rooms#/chat#lobby#",
            b"rooms#/#",
            b"rooms#/chat#ann#",
        ]


async def test_closing_the_manager_forgets_everyone_and_stops_their_handlers(
    adapter: FakeAdapter,
) -> None:
    rooms = RoomManager(adapter, drain_timeout=0.01)

    @rooms.on("connect")
    async def endless(socket: object) -> None:
        await asyncio.Event().wait()

    await rooms.__aenter__()
    async with Member(rooms, "lobby") as member:
        await rooms.__aexit__()
        assert rooms.rooms == {}
        assert rooms.sids == {}
        assert member.socket.rooms == set()
        member.leave()
        await member.wait_ended()
    await all_is_over(rooms)
    assert adapter.subscribed == set()


async def test_a_namespace_is_its_own_dependency(rooms: RoomManager) -> None:
    assert await rooms() is rooms
    assert await rooms.of("/chat")() is rooms.of("/chat")


# It is the operator that addresses everyone in it.


def test_a_namespace_is_a_broadcast_operator() -> None:
    rooms = RoomManager()
    for namespace in (rooms, rooms.of("/chat")):
        assert isinstance(namespace, BroadcastOperator)


def test_what_is_chained_to_a_namespace_is_a_plain_operator() -> None:
    chat = RoomManager().of("/chat")
    for operator in (chat.to("lobby"), chat.except_("ann"), chat.local, chat.volatile):
        assert type(operator) is BroadcastOperator
    assert repr(chat.to("lobby").local) == "<BroadcastOperator to=('lobby',) except_=() local>"


def test_a_namespace_shows_its_name() -> None:
    rooms = RoomManager()
    assert repr(rooms) == "<RoomManager />"
    assert repr(rooms.of("/chat")) == "<Namespace /chat>"


async def test_commands_of_a_namespace_are_about_everyone_in_it(
    rooms: RoomManager, people: dict[str, Member]
) -> None:
    async with Member(rooms.of("/chat"), "lobby") as other:
        assert await rooms.count() == 3
        assert {socket.sid for socket in await rooms.fetch_sockets()} == set(people)
        await rooms.sockets_join("new")
        assert rooms.rooms["new"] == set(people)
        await rooms.sockets_leave("new", "lobby")
        assert {name for name in rooms.rooms if name not in rooms.sids} == {"bar"}
        assert await rooms.all_rooms() == {"ann", "bob", "cid", "bar"}
        await rooms.disconnect_sockets(4001, "out")
        assert rooms.sids == {}
        for member in people.values():
            assert await member.wait_closed() == 4001
            assert member.close_reason == "out"
        assert other.socket.rooms == {other.sid, "lobby"}
