"""`rooms.sync`: the operators for threads; and what is refused outside the manager's event loop."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from fastapi_rooms import AdapterUnavailable, NotStarted, RoomManager, ServerReply, UsageError
from fastapi_rooms.testing import Cluster, Member
from fastapi_rooms.worker import runtime as runtime_module
from tests.unit.support import FakeAdapter, other_tasks

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work)


async def test_a_thread_sends_to_every_worker() -> None:
    async with Cluster(2) as cluster:
        one, two = cluster
        near, far = await cluster.member(one, "tea"), await cluster.member(two, "tea")
        out = await cluster.member(two, "tea", "muted")
        operator = one.sync.to("tea").except_("muted")
        await in_thread(lambda: operator.send_text("text"))
        await in_thread(lambda: operator.send_bytes(b"\0\xff"))
        await in_thread(lambda: one.sync.to("tea").except_("muted").send_json({"a": [1]}))
        await in_thread(lambda: one.sync.send_text("everyone"))
        for member in (near, far):
            assert await member.receive_text() == "text"
            assert await member.receive_bytes() == b"\0\xff"
            assert await member.receive_text() == '{"a":[1]}'
            assert await member.receive_text() == "everyone"
        assert await out.receive_text() == "everyone"


async def test_local_and_volatile_chain_as_they_do_elsewhere() -> None:
    async with Cluster(2) as cluster:
        one, two = cluster
        near, far = await cluster.member(one, "tea"), await cluster.member(two, "tea")
        await in_thread(lambda: one.sync.local.to("tea").send_text("here"))
        await in_thread(lambda: one.sync.to("tea").volatile.send_text("anywhere"))
        assert await near.receive_text() == "here"
        assert await near.receive_text() == "anywhere"
        assert await far.receive_text() == "anywhere"
        assert repr(one.sync.to("tea").local.volatile) == (
            "<SyncOperator to=('tea',) except_=() local volatile>"
        )


async def test_the_verbs_over_the_cluster_answer_in_a_thread() -> None:
    async with Cluster(2) as cluster:
        one, two = cluster
        far = await cluster.member(two, "tea", sid="ann")
        sync = one.sync
        assert await in_thread(sync.to("tea").count) == 1
        [found] = await in_thread(sync.fetch_sockets)
        assert (found.sid, found.node) == ("ann", two.node)
        await in_thread(lambda: sync.to("ann").sockets_join("coffee", timeout=5))
        assert await in_thread(sync.all_rooms) == {"ann", "tea", "coffee"}
        await in_thread(lambda: sync.to("ann").sockets_leave("coffee"))
        assert two.rooms.keys() == {"ann", "tea"}
        await in_thread(lambda: sync.to("ann").disconnect_sockets(4001, "out"))
        assert await far.wait_closed() == 4001


async def test_server_side_events_go_out_from_a_thread() -> None:
    heard: list[str] = []
    async with Cluster(2) as cluster:
        one, two = cluster

        @two.on_server_side("reload")
        def reload(what: str) -> int:
            heard.append(what)
            return len(heard)

        replies = await in_thread(partial(one.sync.server_side_emit_with_ack, "reload", "a"))
        assert replies == [ServerReply(two.node, 1, None)]
        await in_thread(partial(one.sync.server_side_emit, "reload", "b"))
        replies = await in_thread(partial(one.sync.server_side_emit_with_ack, "reload", "c"))
        assert heard == ["a", "b", "c"]


async def test_namespaces_have_their_own() -> None:
    async with RoomManager() as rooms, Member(rooms.of("/chat"), "tea") as member:
        chat = rooms.of("/chat").sync
        assert chat.name == "/chat"
        assert await in_thread(rooms.sync.count) == 0
        await in_thread(lambda: chat.to("tea").send_text("hello"))
        assert await member.receive_text() == "hello"


async def test_errors_come_to_the_thread_that_called() -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter, max_message_bytes=3) as rooms:
        adapter.publish_error = AdapterUnavailable("no")
        with pytest.raises(AdapterUnavailable, match="no"):
            await in_thread(lambda: rooms.sync.send_text("abc"))
        with pytest.raises(UsageError, match="limit is 3"):
            await in_thread(lambda: rooms.sync.send_text("abcd"))
        with pytest.raises(TypeError):
            await in_thread(lambda: rooms.sync.send_json(object()))
        with pytest.raises(UsageError, match="room name"):
            rooms.sync.to("")


async def test_in_the_event_loop_itself_it_is_refused_at_once() -> None:
    async with RoomManager() as rooms:
        with pytest.raises(UsageError, match=r"await rooms\.to"):
            rooms.sync.send_text("hello")
        with pytest.raises(UsageError, match="would block"):
            rooms.sync.count()
        assert not other_tasks()


async def test_an_event_loop_that_does_not_get_to_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime_module, "LOOP_TIMEOUT", 0.01)
    adapter = FakeAdapter()
    async with RoomManager(adapter, request_timeout=0.01) as rooms:
        adapter.hold()
        with pytest.raises(AdapterUnavailable, match=r"did not do it in 0\.02 s"):
            await in_thread(lambda: rooms.sync.send_text("hello"))
        adapter.release()


async def test_a_manager_that_is_not_running_says_so_in_a_thread() -> None:
    rooms = RoomManager()
    with pytest.raises(NotStarted):
        await in_thread(lambda: rooms.sync.send_text("hello"))


# What is refused elsewhere, before anything is done.


def send(rooms: RoomManager) -> Any:
    return rooms.to("tea").send_text("x")


FOREIGN: dict[str, Callable[[RoomManager], Any]] = {
    "send": send,
    "count": lambda rooms: rooms.count(),
    "drain": lambda rooms: rooms.drain(),
    "server-side event": lambda rooms: rooms.server_side_emit("event"),
    "listen": lambda rooms: rooms.listen("tea").__aenter__(),
}


@pytest.mark.parametrize("use", FOREIGN.values(), ids=FOREIGN)
async def test_another_event_loop_is_told_of_sync(use: Callable[[RoomManager], Any]) -> None:
    adapter = FakeAdapter()
    async with RoomManager(adapter) as rooms, Member(rooms, "tea"):

        async def elsewhere() -> None:
            await use(rooms)

        with pytest.raises(UsageError, match=r"rooms\.sync"):
            await in_thread(lambda: asyncio.run(elsewhere()))
        assert rooms.health.ready
        assert adapter.published == []


async def test_views_and_health_are_readable_from_anywhere() -> None:
    async with RoomManager() as rooms, Member(rooms, "tea", sid="ann"):
        health, names, sids, node, nodes = await in_thread(
            lambda: (rooms.health, set(rooms.rooms), set(rooms.sids), rooms.node, rooms.nodes())
        )
        assert health.ready
        assert (names, sids) == ({"ann", "tea"}, {"ann"})
        assert nodes == {node}


def _use_in_child(rooms: RoomManager, answers: multiprocessing.SimpleQueue[str]) -> None:
    uses: list[Callable[[], None]] = [
        lambda: rooms.sync.send_text("x"),
        lambda: asyncio.run(_send(rooms)),
    ]
    for use in uses:
        try:
            use()
        except UsageError as error:
            answers.put(str(error))
        else:
            answers.put("nothing was refused")


async def _send(rooms: RoomManager) -> None:
    await rooms.send_text("x")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_is_told_of_the_emitter() -> None:
    fork = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[str] = fork.SimpleQueue()
    async with RoomManager() as rooms:
        child = fork.Process(target=_use_in_child, args=(rooms, answers))
        child.start()
        said = [await in_thread(answers.get) for _ in range(2)]
        await in_thread(child.join)
    for text in said:
        assert "Emitter" in text
        assert str(os.getpid()) in text
    assert threading.current_thread() is threading.main_thread()
