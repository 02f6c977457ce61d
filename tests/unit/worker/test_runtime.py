"""One run after the other: what starts and ends with each, and its health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import astuple, replace

import pytest

from fastapi_rooms.adapters.base import AdapterHealth
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, NotStarted, UsageError
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker import run as run_module
from fastapi_rooms.worker.run import Run
from fastapi_rooms.worker.runtime import Runtime
from tests.unit.support import FakeAdapter, channel_of, other_tasks, published
from tests.unit.worker.support import run_settings

LOBBY = channel_of("lobby")


HELLO = Payload.of_text("hello")


def _ready(runtime: Runtime) -> bool:
    return runtime.health.ready


async def test_what_needs_a_running_manager_says_so_when_there_is_none(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, run_settings())
    with pytest.raises(NotStarted):
        _ = runtime.run.node
    with pytest.raises(NotStarted):
        runtime.run.check_size(len(HELLO.data))
    with pytest.raises(NotStarted):
        await runtime.run.acquire([LOBBY])
    with pytest.raises(NotStarted):
        await published(runtime.run.publish("/", Target(), HELLO, volatile=False))
    with pytest.raises(NotStarted):
        runtime.run.spend_turn(len(HELLO.data))
    assert (adapter.subscribed, adapter.published) == (set(), [])


async def test_every_start_is_a_new_worker_on_a_channel_of_its_own(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    nodes = set()
    for _ in range(3):
        await runtime.start()
        nodes.add(runtime.run.node)
        assert adapter.subscribed == {Channels("rooms").of_node(runtime.run.node)}
        await runtime.stop()
    assert len(nodes) == 3
    assert adapter.closes == 3


async def test_a_start_that_fails_leaves_it_not_started(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    adapter.start_error = AdapterUnavailable("wrong password")
    with pytest.raises(AdapterUnavailable, match="wrong password"):
        await runtime.start()
    with pytest.raises(NotStarted):
        _ = runtime.run.node
    adapter.start_error = None
    await runtime.start()
    assert runtime.health.ready
    await runtime.stop()


async def test_closing_leaves_no_timer_behind(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings(linger=0.001))
    await runtime.start()
    await runtime.run.acquire([LOBBY])
    runtime.run.release([LOBBY])
    await runtime.stop()
    await runtime.start()
    adapter.subscribed.add(LOBBY)  # what a sweep of the closed runtime would take away
    await runtime.run.acquire([b"other"])
    runtime.run.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    await runtime.stop()


async def test_health_is_the_adapters_and_ready_only_while_it_runs(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    adapter.health = AdapterHealth(True, 1.0, 2.0, reconnects=3, buffered=4, dropped=5, forbidden=6)
    assert astuple(runtime.health)[1:] == (True, 1.0, 2.0, 3, 4, 5, "", 6, 0.0, 0, 0, 0, 0)
    assert _ready(runtime) is False
    await runtime.start()
    assert _ready(runtime) is True
    adapter.health = replace(adapter.health, connected=False)
    assert _ready(runtime) is False
    adapter.health = replace(adapter.health, connected=True)
    await runtime.stop()
    adapter.health = replace(adapter.health, connected=True)
    assert _ready(runtime) is False


async def test_stopping_what_does_not_run_says_so(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    with pytest.raises(NotStarted):
        await runtime.stop()
    assert adapter.closes == 0


async def test_releasing_channels_when_there_is_no_run_is_harmless(adapter: FakeAdapter) -> None:
    Runtime(adapter, run_settings()).release([LOBBY])
    assert not other_tasks()


# When the server begins to stop.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    server = _Server()
    monkeypatch.setattr(run_module, "on_server_shutdown", server.on_shutdown)
    return server


class _Server:
    """Notes who wants to know that it begins to stop."""

    def __init__(self) -> None:
        self.hooks: list[Callable[[float | None], object]] = []

    def on_shutdown(self, hook: Callable[[float | None], object]) -> Callable[[], None]:
        self.hooks.append(hook)
        return self.hooks.clear


async def test_a_server_that_begins_to_stop_begins_the_drain(
    adapter: FakeAdapter, server: _Server
) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    [hook] = server.hooks
    assert hook(None) == runtime.settings.drain_schedule.timeout
    assert runtime.run.draining
    assert not runtime.health.ready
    await runtime.stop()
    assert server.hooks == [], "a run that is over is not told any more"


async def test_a_server_that_waits_for_a_short_time_only_shortens_the_drain(
    adapter: FakeAdapter, server: _Server
) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    timeout = server.hooks[0](1.0)
    assert isinstance(timeout, float)
    assert timeout < 1.0
    assert server.hooks[0](None) == timeout, "a drain that has begun goes on as it is"
    await runtime.stop()


async def test_without_direct_writes_the_server_is_left_alone(
    adapter: FakeAdapter, server: _Server
) -> None:
    runtime = Runtime(adapter, replace(run_settings(), direct_writes=False))
    await runtime.start()
    assert server.hooks == []
    await runtime.stop()


async def test_a_run_that_is_over_cannot_be_drained(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    run = runtime.run
    await runtime.stop()
    drained_before = run.draining
    closed = Run(adapter, run_settings(), runtime.channels, {})
    await closed.close()
    assert closed.begin_drain() is None
    with pytest.raises(NotStarted):
        await closed.drain()
    assert drained_before


async def test_a_thread_without_an_event_loop_is_told_what_to_use(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    with pytest.raises(UsageError, match=r"rooms\.sync"):
        await asyncio.to_thread(runtime.check_here)
    await runtime.stop()


async def test_a_forked_process_is_told_that_it_has_no_manager(
    adapter: FakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    with monkeypatch.context() as patch:
        patch.setattr("fastapi_rooms.worker.runtime.os.getpid", lambda: -1)
        with pytest.raises(UsageError, match="forked"):
            await asyncio.to_thread(runtime.check_here)
        assert not runtime.is_running
    await runtime.stop()


async def test_a_timeout_of_the_work_itself_is_not_taken_for_a_loop_that_is_blocked(
    adapter: FakeAdapter,
) -> None:
    async def work() -> None:
        raise TimeoutError("of the work")

    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    with pytest.raises(TimeoutError, match="of the work"):
        await asyncio.to_thread(runtime.call, work, None)
    await runtime.stop()


def test_a_run_whose_event_loop_is_closed_is_none(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    asyncio.run(runtime.start())
    with pytest.raises(NotStarted):
        runtime.check_here()
    runtime.abandon()
