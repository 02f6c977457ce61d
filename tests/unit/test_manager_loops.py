"""The manager in one event loop after the other, and in forked processes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastapi_rooms import ConfigurationError, MemoryAdapter, MemoryBus, RoomManager, Socket
from fastapi_rooms.testing import Member, eventually
from fastapi_rooms.worker import fanout as fanout_module
from fastapi_rooms.worker.fanout import IMMEDIATE_MAX
from tests.unit.support import other_tasks


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
    async def endless(room: str, socket: Socket) -> None:
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


def test_a_manager_made_before_a_fork_runs_in_every_child() -> None:
    _run(
        FORK
        + """
    in_children()
    asyncio.run(roundtrip())
    print("ok")
    """
    )


def test_a_manager_that_ran_before_a_fork_runs_in_every_child() -> None:
    _run(
        FORK
        + """
    asyncio.run(roundtrip())
    in_children()
    print("ok")
    """
    )


def test_a_running_manager_runs_on_in_the_parent_and_anew_in_every_forked_child() -> None:
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


def test_a_lock_that_another_thread_has_at_a_fork_keeps_no_child_waiting() -> None:
    _run(
        FORK
        + """
    import signal, threading, warnings

    asyncio.run(roundtrip())
    locked, forked = threading.Event(), threading.Event()

    def have_the_lock():
        with rooms._registry.lock:
            locked.set()
            forked.wait()

    thread = threading.Thread(target=have_the_lock, daemon=True)
    thread.start()
    locked.wait()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what is tried here
        child = os.fork()
    if child == 0:
        signal.alarm(30)  # ends it if it waits for ever
        asyncio.run(roundtrip())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    forked.set()
    thread.join()
    print("ok")
    """
    )
