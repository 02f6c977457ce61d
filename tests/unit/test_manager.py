"""The manager: put together, started, closed, and started again anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fastapi_rooms import (
    AdapterUnavailable,
    ConfigurationError,
    InvalidNamespace,
    MemoryAdapter,
    MemoryBus,
    Namespace,
    NotStarted,
    OutboxPolicy,
    RedisAdapter,
    RoomManager,
)
from fastapi_rooms import manager as manager_module
from fastapi_rooms.testing import Cluster, Member, eventually
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import FakeAdapter, other_tasks

# Put together.


def test_making_one_opens_nothing_and_needs_no_event_loop() -> None:
    for url in ("memory://", "memory://name", "redis://nowhere.invalid:1", "unix:///nowhere"):
        rooms = RoomManager(url)
        assert not rooms.health.ready
        assert rooms.rooms == rooms.sids == {}


def test_a_manager_is_the_namespace_slash() -> None:
    rooms = RoomManager()
    assert rooms.name == "/"
    assert rooms.of("/") is rooms


def test_a_namespace_is_made_once() -> None:
    rooms = RoomManager()
    chat = rooms.of("/chat")
    assert isinstance(chat, Namespace)
    assert not isinstance(chat, RoomManager)
    assert chat is rooms.of("/chat") is rooms.of("chat")
    assert chat.name == "/chat"
    assert rooms.of("/Chat") is not chat


@pytest.mark.parametrize("name", ["", "/a#b", "x" * 256, None])
def test_what_no_namespace_can_be_called_is_refused(name: Any) -> None:
    with pytest.raises(InvalidNamespace):
        RoomManager().of(name)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", MemoryAdapter),
        ("memory://shared", MemoryAdapter),
        ("redis://localhost:6379/1", RedisAdapter),
        ("rediss://user:secret@localhost:6379", RedisAdapter),
        ("unix:///run/redis.sock", RedisAdapter),
    ],
)
def test_a_url_says_which_adapter(url: str, kind: type) -> None:
    rooms = RoomManager(url, prefix="mine")
    assert type(rooms._runtime.adapter) is kind
    assert rooms._runtime.adapter.prefix == "mine"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", "''"),
        ("localhost:6379", "'localhost:6379'"),
        ("http://me:secret@host", "http://…"),
        ("redis+x://me:secret@host", "redis+x://…"),
        ("memory", "'memory'"),
    ],
)
def test_a_url_that_says_none_is_refused_without_showing_a_password(url: str, shown: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RoomManager(url)
    assert shown in str(raised.value)
    assert "secret" not in str(raised.value)
    for known in ("memory://", "redis://", "rediss://", "unix://"):
        assert known in str(raised.value)


def test_the_prefix_is_rooms_or_what_the_adapter_was_made_with() -> None:
    assert RoomManager()._runtime.channels.prefix == "rooms"
    assert RoomManager(FakeAdapter("mine"))._runtime.channels.prefix == "mine"
    assert RoomManager(FakeAdapter("mine"), prefix="mine")._runtime.channels.prefix == "mine"


@pytest.mark.parametrize("prefix", ["", "a#b", "x" * 256])
def test_a_prefix_that_would_blur_the_channels_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RoomManager(prefix=prefix)


def test_two_different_prefixes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'theirs'.*'mine'"):
        RoomManager(FakeAdapter("theirs"), prefix="mine")


# Not started.


USES: dict[str, Callable[[RoomManager], Awaitable[object]]] = {
    "send_text": lambda rooms: rooms.send_text("x"),
    "send_bytes": lambda rooms: rooms.send_bytes(b"x"),
    "send_json": lambda rooms: rooms.send_json("x"),
    "to": lambda rooms: rooms.to("lobby").send_text("x"),
    "except_": lambda rooms: rooms.except_("ann").send_text("x"),
    "local": lambda rooms: rooms.local.send_text("x"),
    "volatile": lambda rooms: rooms.volatile.send_text("x"),
    "of": lambda rooms: rooms.of("/chat").to("lobby").send_text("x"),
    "listen": lambda rooms: rooms.listen("lobby").__aenter__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("closed", [False, True])
async def test_using_a_manager_that_does_not_run_says_how_to_start_it(
    use: Callable[[RoomManager], Awaitable[object]], closed: bool
) -> None:
    rooms = RoomManager()
    if closed:
        async with rooms:
            pass
    with pytest.raises(NotStarted, match=r"FastAPI\(lifespan=rooms.lifespan\)"):
        await use(rooms)


def test_a_manager_that_does_not_run_has_no_id() -> None:
    with pytest.raises(NotStarted):
        _ = RoomManager().node


def test_what_needs_no_adapter_can_be_said_before_the_start() -> None:
    rooms = RoomManager()
    operator = rooms.to("lobby").except_("ann").local.volatile
    rooms.on("connect")(print)
    assert "lobby" in repr(operator)


# Started and closed.


async def test_it_runs_for_the_time_of_the_block() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms as entered:
        assert entered is rooms
        assert rooms.health.ready
        assert adapter.starts == 1
    assert adapter.closes == 1
    assert rooms.health.ready is False


async def test_the_lifespan_is_the_same_for_an_application() -> None:
    rooms = RoomManager()
    async with rooms.lifespan(object()):
        assert rooms.health.ready
    async with rooms.lifespan():
        await rooms.send_text("runs")


async def test_closing_leaves_no_task_and_no_subscription() -> None:
    bus = MemoryBus()
    rooms = RoomManager(MemoryAdapter(bus))
    rooms.on("join-room")(lambda room, sid: rooms.to(room).send_text("welcome"))
    async with rooms:
        async with Member(rooms, "lobby") as member, rooms.listen("lobby"):
            assert await member.receive_text() == "welcome"
            assert bus.subscriptions(b"rooms#/#lobby#") == 1
        await rooms.of("/chat").send_text("x")
    assert not other_tasks()
    for channel in (b"rooms#/#lobby#", b"rooms#/#", b"rooms#/chat#"):
        assert bus.subscriptions(channel) == 0


async def test_it_can_be_started_again_as_another_worker() -> None:
    rooms = RoomManager(linger=0)
    workers = set()
    for _ in range(3):
        async with rooms, Member(rooms, "lobby") as member:
            workers.add(member.sid.partition(".")[0])
            await rooms.to("lobby").send_text("hello")
            assert await member.receive_text() == "hello"
    assert len(workers) == 3
    assert not other_tasks()


async def test_started_twice_at_a_time_it_runs_until_both_are_over() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms:
        async with Member(rooms, "lobby") as member:
            async with rooms:
                pass
            await rooms.to("lobby").send_text("still here")
            assert await member.receive_text() == "still here"
        assert (adapter.starts, adapter.closes) == (1, 0)
    assert (adapter.starts, adapter.closes) == (1, 1)


def test_two_who_start_it_at_once_start_it_once_in_one_event_loop_after_the_other() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    start = adapter.start

    async def slow_start(*args: Any) -> None:
        await asyncio.sleep(0)
        await start(*args)

    async def twice_at_once() -> None:
        before = adapter.starts
        await asyncio.gather(rooms.__aenter__(), rooms.__aenter__())
        assert adapter.starts == before + 1
        await rooms.__aexit__()
        assert rooms.health.ready
        await rooms.__aexit__()
        assert adapter.closes == adapter.starts

    adapter.start = slow_start  # type: ignore[method-assign, assignment]
    for _ in range(2):
        asyncio.run(twice_at_once())


async def test_a_start_that_fails_can_be_tried_again() -> None:
    adapter = FakeAdapter()
    adapter.start_error = AdapterUnavailable("wrong password")
    rooms = RoomManager(adapter)
    with pytest.raises(AdapterUnavailable, match="wrong password"):
        async with rooms:
            pytest.fail("it did not start")
    with pytest.raises(NotStarted):
        await rooms.send_text("x")
    adapter.start_error = None
    async with rooms:
        await rooms.send_text("x")
    assert (adapter.starts, adapter.closes) == (1, 2)  # the start that failed was closed as well


async def test_an_error_in_the_block_closes_it_and_goes_on() -> None:
    adapter = FakeAdapter()
    with pytest.raises(ValueError, match="mine"):
        async with RoomManager(adapter):
            raise ValueError("mine")
    assert adapter.closes == 1


async def test_a_close_that_is_cancelled_closes_the_adapter_all_the_same() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter, drain_timeout=0.01)
    cancelled, may_end = asyncio.Event(), asyncio.Event()

    @rooms.on("connect")
    async def stubborn(socket: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await may_end.wait()

    await rooms.__aenter__()
    async with Member(rooms):
        await eventually(other_tasks)
    closing = asyncio.ensure_future(rooms.__aexit__())
    await cancelled.wait()
    closing.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert adapter.closes == 1


async def test_health_tells_what_the_adapter_knows() -> None:
    adapter = FakeAdapter()
    rooms = RoomManager(adapter)
    async with rooms:
        assert rooms.health.connected
        assert rooms.health.since == adapter.health.since
        adapter.health = adapter.health._replace(connected=False, buffered=7)
        assert rooms.health.ready is False
        assert rooms.health.buffered == 7


# In another event loop.


async def _roundtrip(rooms: RoomManager) -> None:
    async with rooms, Member(rooms, "lobby", sid="ann") as ann:
        await rooms.to("lobby").send_text("hello")
        assert await ann.receive_text() == "hello"


def test_it_runs_in_one_event_loop_after_the_other() -> None:
    rooms = RoomManager()
    for _ in range(2):
        asyncio.run(_roundtrip(rooms))


def test_what_a_stopped_event_loop_left_behind_is_forgotten_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fanout_module, "SLICE", 1)
    bus = MemoryBus()
    rooms = RoomManager(MemoryAdapter(bus), drain_timeout=0.01)

    @rooms.on("join-room")
    async def endless(room: str, sid: str) -> None:
        await asyncio.Event().wait()

    async def start_and_stay() -> None:
        await rooms.__aenter__()
        for number in range(IMMEDIATE_MAX + 1):
            await Member(rooms, "lobby", sid=f"former {number}").open()
        await listener.__aenter__()
        sending.append(asyncio.ensure_future(rooms.to("lobby").local.send_text("half written")))
        await asyncio.sleep(0)

    async def in_the_next() -> None:
        async with rooms:
            assert rooms.rooms == rooms.sids == {}
            for channel in (b"rooms#/#lobby#", b"rooms#/#news#"):
                assert bus.subscriptions(channel) == 0
            async with Member(rooms, "lobby", sid="ann") as ann:
                await rooms.to("lobby", "news").send_text("hello")
                assert await ann.receive_text() == "hello"
                assert rooms.sids == {"ann": {"ann", "lobby"}}
        assert not other_tasks(), "it has closed its own handlers, and those only"

    async def clean_up() -> None:
        await listener.__aexit__(None, None, None)
        for task in other_tasks():
            task.cancel()
        await eventually(lambda: not other_tasks())

    listener = rooms.listen("news")
    sending: list[asyncio.Task[None]] = []
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(start_and_stay())
        assert len(rooms.rooms["lobby"]) == IMMEDIATE_MAX + 1
        asyncio.run(in_the_next())
        loop.run_until_complete(clean_up())
    asyncio.run(_roundtrip(rooms))


def test_it_does_not_run_in_two_event_loops_at_once() -> None:
    rooms = RoomManager()
    may_end = threading.Event()
    started = threading.Event()

    async def first() -> None:
        async with rooms:
            started.set()
            await eventually(may_end.is_set)
            await rooms.send_text("still runs")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, first())
        try:
            assert started.wait(10)
            with pytest.raises(ConfigurationError, match="another event loop"):
                asyncio.run(_roundtrip(rooms))
        finally:
            may_end.set()
        running.result(10)
    asyncio.run(_roundtrip(rooms))


def test_managers_in_two_event_loops_meet_on_a_shared_bus() -> None:
    bus = MemoryBus()
    one, two = RoomManager(MemoryAdapter(bus)), RoomManager(MemoryAdapter(bus))
    listening = threading.Event()

    async def listen() -> str:
        async with one, one.listen("lobby") as messages:
            listening.set()
            return (await asyncio.wait_for(anext(messages), 10)).text

    async def say() -> None:
        async with two:
            await two.to("lobby").send_text("from another thread")

    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(asyncio.run, listen())
        assert listening.wait(10)
        asyncio.run(say())
        assert heard.result(10) == "from another thread"


# In another process.


def _run(script: str) -> None:
    """Run Python in a process of its own, which has one thread as a server that forks has."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")


FORK = """
    import asyncio, os
    from fastapi_rooms import RoomManager
    from fastapi_rooms.testing import Member

    rooms = RoomManager()

    async def roundtrip():
        async with rooms, Member(rooms, "lobby", sid="ann") as ann:
            assert rooms.rooms == {"lobby": {"ann"}, "ann": {"ann"}}, rooms.rooms
            await rooms.to("lobby").send_text("hello")
            assert await ann.receive_text() == "hello"

    def in_children():
        children = [os.fork() for _ in range(2)]
        if 0 in children:
            asyncio.run(roundtrip())
            os._exit(0)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
"""


def test_one_made_before_a_fork_runs_in_every_child() -> None:
    _run(
        FORK
        + """
    in_children()
    asyncio.run(roundtrip())
    print("ok")
    """
    )


def test_one_that_ran_before_a_fork_runs_in_every_child() -> None:
    _run(
        FORK
        + """
    asyncio.run(roundtrip())
    in_children()
    print("ok")
    """
    )


def test_one_that_runs_when_the_process_forks_runs_anew_in_every_child_and_on_in_the_parent() -> (
    None
):
    _run(
        FORK
        + """
    async def parent():
        async with rooms, Member(rooms, "lobby", sid="parent") as member:
            in_children()
            assert rooms.rooms == {"lobby": {"parent"}, "parent": {"parent"}}
            await rooms.to("lobby").send_text("still here")
            assert await member.receive_text() == "still here"

    asyncio.run(parent())
    print("ok")
    """
    )


# The memory adapter where it cannot work.


@pytest.fixture
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 2)


async def test_rooms_in_memory_with_several_workers_are_warned_of_once(
    two_workers: None, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = RoomManager()
    async with rooms, rooms:
        pass
    [record] = caplog.records
    assert (record.name, record.levelno) == ("fastapi_rooms", logging.WARNING)
    assert "2 worker processes" in record.getMessage()
    assert 'RoomManager("redis://localhost:6379")' in record.getMessage()


async def test_one_worker_or_an_adapter_that_meets_others_is_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 1)
    async with RoomManager():
        pass
    monkeypatch.setattr(manager_module, "count_workers_here", lambda: 4)
    async with RoomManager(FakeAdapter()):
        pass
    assert not caplog.records


# Several managers in one process.


async def test_managers_with_the_same_memory_name_are_each_others_workers() -> None:
    one, two, other = (RoomManager(f"memory://{name}") for name in ("a", "a", "b"))
    async with (
        one,
        two,
        other,
        Member(two, "lobby") as member,
        Member(other, "lobby") as stranger,
    ):
        await one.to("lobby").send_text("hello")
        assert await member.receive_text() == "hello"
        await other.to("lobby").send_text("apart")
        assert await stranger.receive_text() == "apart"
        assert member.unread == []


async def test_managers_without_a_name_are_apart() -> None:
    one, two = RoomManager(), RoomManager()
    async with one, two, Member(two, "lobby") as member:
        await one.to("lobby").send_text("unheard")
        await two.to("lobby").send_text("heard")
        assert await member.receive_text() == "heard"


async def test_prefixes_keep_applications_on_one_bus_apart() -> None:
    bus = MemoryBus()
    one, two = (RoomManager(MemoryAdapter(bus, prefix=prefix)) for prefix in "ab")
    async with one, two, Member(two, "lobby") as member:
        await one.to("lobby").send_text("unheard")
        await two.to("lobby").send_text("heard")
        assert await member.receive_text() == "heard"


async def test_a_slow_reader_on_one_worker_is_given_up_by_the_policy_of_its_own() -> None:
    async with Cluster(workers=2, outbox=OutboxPolicy(max_bytes=100)) as cluster:
        one, two = cluster
        slow = await cluster.member(two, "lobby")
        quick = await cluster.member(two, "lobby")
        slow.stall()
        for number in range(10):
            await one.to("lobby").send_text(f"{number}" * 30)
            assert await quick.receive_text() == f"{number}" * 30
        slow.resume()
        assert await slow.wait_closed() == 1013


async def test_a_closed_manager_is_not_kept_alive() -> None:
    bus = MemoryBus()

    async def used() -> weakref.ref[RoomManager]:
        rooms = RoomManager(MemoryAdapter(bus))
        async with rooms, Member(rooms, "lobby") as member:
            await rooms.to("lobby").send_text("hello")
            assert await member.receive_text() == "hello"
        return weakref.ref(rooms)

    manager = await used()
    await eventually(lambda: not other_tasks())
    gc.collect()
    assert manager() is None
