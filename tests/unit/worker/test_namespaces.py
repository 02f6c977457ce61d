"""Namespaces are there as long as anybody has to do with them, and leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any
from weakref import ref

import pytest
from starlette.websockets import WebSocketDisconnect

from fastapi_rooms import MemoryAdapter, MemoryBus, Namespace, RoomManager, ServerReply, Socket
from fastapi_rooms.core.target import Target
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.wire.codec import encode
from tests.unit.support import FakeAdapter, broadcast, channel_of


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Nothing here may wait for the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def names(rooms: RoomManager) -> set[str]:
    return set(rooms.namespaces)


def is_gone(rooms: RoomManager) -> bool:
    """Whether nothing has to do with any namespace; tests' clients refer to themselves."""
    gc.collect()
    return names(rooms) == {"/"}


def test_it_is_the_same_object_as_long_as_anybody_holds_it() -> None:
    rooms = RoomManager()
    held = rooms.of("/a")
    assert rooms.of("/a") is rooms.of("a") is held
    assert rooms.of("/a").local._dispatcher is held._dispatcher
    assert rooms.namespaces == {"/": rooms, "/a": held}
    assert rooms.of("/") is rooms


def test_one_that_nobody_holds_is_gone_at_once() -> None:
    rooms = RoomManager()
    namespace = rooms.of("/a")
    known = ref(namespace), ref(namespace._here), ref(namespace._handlers)
    del namespace
    assert [found() for found in known] == [None, None, None]
    assert names(rooms) == {"/"}


async def test_twenty_thousand_names_asked_for_once_leave_nothing(rooms: RoomManager) -> None:
    rooms.of("/warm")
    before = len(gc.get_objects())
    for number in range(20_000):
        rooms.of(f"/{number}")
    assert len(gc.get_objects()) < before + 100
    assert names(rooms) == {"/"}


def test_one_that_is_only_held_takes_some_kilobytes() -> None:
    rooms = RoomManager()
    rooms.of("/warm")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        held = [rooms.of(f"/{number}") for number in range(200)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(held) < 7500


HOLDERS: dict[str, Callable[[Namespace], Any]] = {
    "an operator": lambda namespace: namespace.to("lobby"),
    "an operator of this worker": lambda namespace: namespace.local,
    "its verbs for threads": lambda namespace: namespace.sync,
    "one of those": lambda namespace: namespace.sync.to("lobby"),
    "a method": lambda namespace: namespace.connect,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_is_made_of_it_keeps_it(holder: str) -> None:
    rooms = RoomManager()
    held = HOLDERS[holder](rooms.of("/a"))
    assert names(rooms) == {"/", "/a"}
    del held
    assert names(rooms) == {"/"}


async def test_a_socket_keeps_its_namespace_and_hears_what_is_sent_to_it(
    rooms: RoomManager, adapter: FakeAdapter
) -> None:
    async with Member(rooms.of("/a"), "tea") as member:
        assert member.socket.namespace is rooms.of("/a")
        await rooms.of("/a").to("tea").send_text("from here")
        assert adapter.receiver is not None
        elsewhere = encode(broadcast(1, Target(("tea",)), "from elsewhere", namespace="/a"))
        adapter.receiver.received(channel_of("tea", "/a"), elsewhere)
        assert await member.receive_until("from elsewhere") == ["from here"]
    del member
    await eventually(lambda: is_gone(rooms))
    await eventually(lambda: len(adapter.subscribed) == 1, what="only the worker's own channel")


async def test_a_socket_of_which_nobody_knows_any_more_is_in_until_it_leaves(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Member(rooms.of("/a"), "tea"))
        gc.collect()
        assert rooms.of("/a").rooms["tea"]
        assert [worker.sockets for worker in await rooms.workers()] == [1]


async def test_one_that_is_about_to_be_disconnected_keeps_it(rooms: RoomManager) -> None:
    async with Member(rooms.of("/a"), "tea") as member:
        await rooms.of("/a").disconnect_sockets(4000)
        assert await member.wait_closed() == 4000
    del member
    await eventually(lambda: is_gone(rooms))


async def test_a_listener_keeps_it_and_is_drained_with_the_worker(adapter: FakeAdapter) -> None:
    rooms = RoomManager(adapter, linger=0)
    async with rooms, rooms.of("/a").listen("tea") as messages:
        await rooms.of("/a").to("tea").send_text("hello")
        assert (await anext(messages)).text == "hello"
        await rooms.drain()
        assert [message async for message in messages] == []
    assert names(rooms) == {"/"}


async def test_a_join_under_way_keeps_it(rooms: RoomManager, adapter: FakeAdapter) -> None:
    adapter.hold()
    member = Member(rooms.of("/a"), "tea")
    entering = asyncio.create_task(member.__aenter__())
    await eventually(lambda: adapter.waiting)
    held = rooms.of("/a")
    adapter.release()
    await entering
    assert member.socket.namespace is held
    await member.__aexit__(None, None, None)


async def test_what_is_sent_to_many_reaches_them_when_nobody_holds_it_any_more(
    rooms: RoomManager,
) -> None:
    async with AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(Member(rooms.of("/a"), "tea")) for _ in range(40)
        ]
        sending = asyncio.create_task(rooms.of("/a").to("tea").send_text("hello"))
        for member in members:
            assert await member.receive_text() == "hello"
        await sending


async def test_a_message_for_one_that_is_gone_is_dropped_quietly(
    rooms: RoomManager, adapter: FakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    assert adapter.receiver is not None
    adapter.receiver.received(
        channel_of("tea", "/a"), encode(broadcast(1, Target(("tea",)), "x", namespace="/a"))
    )
    assert rooms.health.dropped == 0
    assert caplog.messages == []
    assert names(rooms) == {"/"}


def test_handlers_keep_it_until_the_last_is_taken_back() -> None:
    rooms = RoomManager()
    clone = rooms.clone()
    one, two = (lambda socket: None), (lambda room: None)
    rooms.of("/a").on("connect")(one)
    clone.of("/a").on("create-room")(two)
    later = rooms.clone()
    for manager in (rooms, clone, later):
        assert names(manager) == {"/", "/a"}
    rooms.of("/a").off("connect", one)
    assert names(rooms) == {"/", "/a"}
    rooms.of("/a").off("create-room", two)
    for manager in (rooms, clone, later):
        assert names(manager) == {"/"}


async def test_handlers_are_in_force_though_nobody_holds_the_namespace() -> None:
    bus = MemoryBus()
    rooms = RoomManager(MemoryAdapter(bus))
    told: list[Socket] = []
    rooms.of("/a").on("connect")(told.append)
    rooms.of("/b").authorize("private")(lambda socket, room: False)
    rooms.of("/c").on_server_side("add")(lambda a, b: a + b)
    other = RoomManager(MemoryAdapter(bus))
    for _ in range(2):  # stopped, and started again
        async with rooms, other:
            async with Member(rooms.of("/a")) as member:
                assert told == [member.socket]
            with pytest.raises(WebSocketDisconnect):
                async with Member(rooms.of("/b"), "private"):
                    pass
            replies = await other.of("/c").server_side_emit_with_ack("add", 1, 2)
            assert replies == [ServerReply(rooms.node, 3, None)]
        told.clear()


async def test_a_handler_at_work_keeps_it_and_is_waited_for(rooms: RoomManager) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handler(room: str) -> None:
        begun.set()
        await go_on.wait()

    rooms.of("/a").on("delete-room")(handler)
    async with Member(rooms.of("/a"), "tea") as member:
        await member.socket.leave("tea")
    del member
    await begun.wait()
    rooms.of("/a").off("delete-room", handler)
    assert not is_gone(rooms)
    go_on.set()
    await eventually(lambda: is_gone(rooms))


async def test_one_without_anything_in_it_is_asked_nothing_of(rooms: RoomManager) -> None:
    held = rooms.of("/a")
    assert set(rooms._runtime.namespaces) == {"/"}
    assert await held.fetch_sockets() == []
    assert await held.all_rooms() == set()
    assert await held.to("tea").count() == 0
    await held.sockets_join("tea")


def test_threads_that_ask_for_one_name_get_one_object() -> None:
    rooms = RoomManager()
    together = threading.Barrier(8)
    found: list[list[Namespace]] = [[] for _ in range(8)]

    def ask(mine: list[Namespace]) -> None:
        for number in range(200):
            together.wait()
            mine.append(rooms.of(f"/{number}"))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(set(same)) == 1 for same in zip(*found, strict=True))


def test_no_thread_registers_a_handler_between_the_look_at_them_and_what_comes_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rooms = RoomManager()
    namespace = rooms.of("/a")
    here, lock = namespace._here, namespace._handlers.lock
    free: list[bool] = []

    def look() -> None:
        free.append(lock.acquire(blocking=False))

    def keep(*_: object) -> None:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    monkeypatch.setattr(here._runtime, "keep", keep)
    here.settle()
    assert free == [False]
