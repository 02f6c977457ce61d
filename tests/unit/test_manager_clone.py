"""Clones of a manager: the same handlers and settings, on another adapter."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import (
    ConfigurationError,
    Gap,
    ManagerSettings,
    MemoryAdapter,
    MemoryBus,
    Outage,
    OutboxPolicy,
    RoomManager,
    ServerReply,
    Socket,
)
from fastapi_rooms.testing import Member
from tests.unit.support import FakeAdapter


@pytest.fixture
def rooms() -> RoomManager:
    """An application's manager, which is never started."""
    return RoomManager("redis://nowhere.invalid:1")


@pytest.mark.parametrize("name", ["/", "/chat"])
@pytest.mark.parametrize("later", [False, True])
async def test_a_clone_has_the_handlers_of_every_namespace_whenever_they_are_registered(
    rooms: RoomManager, name: str, later: bool
) -> None:
    told: list[Any] = []

    def register() -> None:
        rooms.of(name).on("join-room")(lambda room, socket: told.append((room, socket.namespace)))
        rooms.of(name).on_server_side("add")(lambda a, b: a + b)
        rooms.of(name).authorize("private")(lambda socket, room: False)

    if not later:
        register()
    bus = MemoryBus()
    one, two = rooms.clone(MemoryAdapter(bus)), rooms.clone(MemoryAdapter(bus))
    async with one, two:
        if later:
            register()
        async with Member(one.of(name), "tea"):
            assert told == [("tea", one.of(name))]
            with pytest.raises(WebSocketDisconnect) as refused:
                async with Member(one.of(name), "private"):
                    pass
        assert refused.value.code == 1008
        replies = await one.of(name).server_side_emit_with_ack("add", 1, 2)
        assert replies == [ServerReply(two.node, 3, None)]
    assert rooms.rooms == rooms.of(name).rooms == {}


async def test_what_is_registered_with_a_clone_is_registered_with_all() -> None:
    rooms = RoomManager()
    told: list[Socket] = []
    rooms.clone().clone().of("/late").on("connect")(told.append)
    async with rooms, Member(rooms.of("/late")) as member:
        assert told == [member.socket]
    assert rooms.namespaces == {"/": rooms, "/late": rooms.of("/late")}


async def test_gaps_say_of_which_manager_they_are() -> None:
    rooms, adapter = RoomManager(), FakeAdapter()
    told: list[Gap] = []
    rooms.on("gap")(told.append)
    clone = rooms.clone(adapter)
    async with clone, Member(clone, "tea"):
        assert adapter.receiver is not None
        adapter.receiver.gap(Outage(1, 2, frozenset(adapter.subscribed)))
    assert [(gap.rooms, gap.namespace) for gap in told] == [(("tea",), clone)]


def test_it_has_the_same_settings_but_for_those_given() -> None:
    rooms = RoomManager(
        outbox=OutboxPolicy(7),
        join_timeout=1,
        prefix="app",
        heartbeat=9,
        when_unavailable="admit",
        compression=None,
    )
    clone = rooms.clone(join_timeout=2)
    mine, its = rooms._runtime.settings, clone._runtime.settings
    assert (its.join_timeout, mine.join_timeout) == (2, 1)
    assert its.outbox is mine.outbox
    assert its.when_unavailable == mine.when_unavailable == "admit"
    assert its.heartbeat == mine.heartbeat
    assert its.compression is None
    assert clone._runtime.adapter.prefix == "app"
    assert clone.clone()._runtime.settings == its
    assert clone.clone(prefix="other")._runtime.adapter.prefix == "other"
    with pytest.raises(ConfigurationError, match="linger"):
        rooms.clone(linger=-1)


def test_an_adapters_own_prefix_is_that_of_the_clone_unless_another_is_given() -> None:
    rooms = RoomManager(prefix="app")
    assert rooms.clone(MemoryAdapter(prefix="mine"))._runtime.adapter.prefix == "mine"
    assert RoomManager(MemoryAdapter(prefix="mine")).clone()._runtime.adapter.prefix == "mine"
    with pytest.raises(ConfigurationError, match="prefix"):
        rooms.clone(MemoryAdapter(prefix="mine"), prefix="app")


def test_what_a_manager_takes_can_be_given_to_a_clone() -> None:
    takes = inspect.signature(RoomManager).parameters.keys() - {"adapter"}
    assert ManagerSettings.__annotations__.keys() == takes


async def test_clones_run_beside_each_other_and_the_original_each_on_its_own() -> None:
    rooms = RoomManager()
    one, two = rooms.clone(), rooms.clone()
    async with rooms, one, two, Member(rooms, "tea"), Member(one, "tea") as ann:
        assert len({rooms.node, one.node, two.node}) == 3
        await two.to("tea").send_text("to nobody")
        await one.to("tea").send_text("hello")
        assert await ann.receive_until("hello") == []


async def test_a_clone_of_a_manager_of_ones_own_class_is_of_that_class() -> None:
    class Mine(RoomManager):
        def greeting(self) -> str:
            return "hello"

    assert Mine().clone().greeting() == "hello"


async def test_a_clone_that_is_not_used_any_more_is_not_kept_alive() -> None:
    rooms = RoomManager()
    clone = weakref.ref(rooms.clone())
    await asyncio.sleep(0)
    gc.collect()
    assert clone() is None
