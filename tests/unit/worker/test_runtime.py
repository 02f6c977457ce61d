"""One run after the other: what starts and ends with each, and its health."""

from __future__ import annotations

import pytest

from fastapi_rooms.adapters.base import AdapterHealth
from fastapi_rooms.core.names import Channels
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker.runtime import Runtime
from tests.unit.support import FakeAdapter, channel_of, published
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
        runtime.run.check_size(HELLO)
    with pytest.raises(NotStarted):
        await runtime.run.acquire([LOBBY])
    with pytest.raises(NotStarted):
        await published(runtime.run.publish("/", Target(), HELLO, volatile=False))
    with pytest.raises(NotStarted):
        runtime.run.spend_turn(HELLO)
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
    assert runtime.health[1:] == (True, 1.0, 2.0, 3, 4, 5, "", 6)
    assert _ready(runtime) is False
    await runtime.start()
    assert _ready(runtime) is True
    adapter.health = adapter.health._replace(connected=False)
    assert _ready(runtime) is False
    adapter.health = adapter.health._replace(connected=True)
    await runtime.stop()
    adapter.health = adapter.health._replace(connected=True)
    assert _ready(runtime) is False
