"""Which channels a run holds: confirmed by the adapter, and released."""

from __future__ import annotations

import asyncio

import pytest

from fastapi_rooms.core.names import new_sid
from fastapi_rooms.errors import AdapterUnavailable, NotStarted
from fastapi_rooms.testing import eventually
from fastapi_rooms.worker.runtime import Runtime
from tests.unit.support import FakeAdapter, channel_of, other_tasks
from tests.unit.worker.support import run_settings

LOBBY, BAR = channel_of("lobby"), channel_of("bar")


class _LiveAdapter(FakeAdapter):
    """An adapter that knows what it has confirmed."""

    def is_live(self, channel: bytes) -> bool:
        return channel in self.subscribed


async def test_a_join_does_not_ask_for_what_is_live_already() -> None:
    adapter = _LiveAdapter()
    runtime = Runtime(adapter, run_settings(linger=60))
    await runtime.start()
    await runtime.run.acquire([LOBBY])
    adapter.hold()
    await runtime.run.acquire([LOBBY])
    joining = asyncio.ensure_future(runtime.run.acquire([LOBBY, BAR]))
    await eventually(lambda: adapter.waiting == 1, what="a join that waits for its new room")
    for _ in range(2):
        runtime.run.release([LOBBY])
    assert not joining.done()
    adapter.release()
    await joining
    assert {LOBBY, BAR} <= adapter.subscribed
    await runtime.stop()


async def test_a_join_returns_when_the_adapter_has_confirmed(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold()
    join = asyncio.ensure_future(runtime.run.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    assert not join.done()
    adapter.release()
    await join
    assert LOBBY in adapter.subscribed


async def test_a_channel_is_unsubscribed_when_the_last_has_released_it(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    await runtime.run.acquire([LOBBY])
    await runtime.run.acquire([LOBBY])
    await runtime.run.acquire([b"other"])
    runtime.run.release([LOBBY])
    runtime.run.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    runtime.run.release([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_channel_held_again_within_its_linger_is_never_unsubscribed(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, run_settings(linger=0.01))
    await runtime.start()
    await runtime.run.acquire([LOBBY, b"other"])
    runtime.run.release([LOBBY, b"other"])
    await runtime.run.acquire([LOBBY])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    await runtime.stop()


async def test_a_linger_that_ended_with_nothing_to_unsubscribe_is_followed_by_the_next(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, run_settings(linger=0.01))
    await runtime.start()
    loop = asyncio.get_running_loop()
    await runtime.run.acquire([LOBBY])
    runtime.run.release([LOBBY])
    over = loop.time() + 0.02
    await runtime.run.acquire([LOBBY])
    await eventually(lambda: loop.time() > over)
    assert LOBBY in adapter.subscribed
    runtime.run.release([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)
    await runtime.stop()


async def test_a_channel_lingers_for_as_long_as_it_was_told_to(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings(linger=0.05))
    await runtime.start()
    loop = asyncio.get_running_loop()
    await runtime.run.acquire([LOBBY])
    runtime.run.release([LOBBY])
    released = loop.time()
    await eventually(lambda: LOBBY not in adapter.subscribed)
    assert loop.time() - released >= 0.05
    await runtime.stop()


async def test_a_join_that_is_not_confirmed_in_time_fails_and_holds_nothing(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, run_settings(join_timeout=0.01))
    await runtime.start()
    adapter.hold()
    with pytest.raises(AdapterUnavailable, match=r"in 0\.01 s\. Nothing was joined"):
        await runtime.run.acquire([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)
    await runtime.stop()


async def test_a_join_that_is_cancelled_holds_nothing(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold()
    join = asyncio.ensure_future(runtime.run.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    join.cancel()
    with pytest.raises(asyncio.CancelledError):
        await join
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_join_that_is_refused_holds_nothing(runtime: Runtime, adapter: FakeAdapter) -> None:
    adapter.subscribe_error = AdapterUnavailable("no permission")
    with pytest.raises(AdapterUnavailable, match="no permission"):
        await runtime.run.acquire([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_failed_join_leaves_the_channel_to_those_who_have_it(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    await runtime.run.acquire([LOBBY])
    adapter.subscribe_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        await runtime.run.acquire([LOBBY, b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed


@pytest.mark.parametrize("fails", [False, True])
async def test_a_join_of_an_earlier_start_takes_nothing_from_the_present_one(
    runtime: Runtime, adapter: FakeAdapter, fails: bool
) -> None:
    adapter.hold()
    late = asyncio.ensure_future(runtime.run.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    await runtime.stop()
    await runtime.start()
    adapter.release()
    await runtime.run.acquire([LOBBY])
    adapter.subscribe_error = AdapterUnavailable("the manager was closed") if fails else None
    with pytest.raises(AdapterUnavailable if fails else NotStarted):
        await late
    adapter.subscribe_error = None
    await runtime.run.acquire([b"other"])
    runtime.run.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed


async def test_releasing_after_the_close_is_harmless(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    run = runtime.run
    await run.acquire([LOBBY])
    await runtime.stop()
    run.release([LOBBY])
    runtime.release([LOBBY])
    assert not other_tasks()


async def test_a_sid_made_here_costs_no_channel_of_its_own(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    before = set(adapter.subscribed)
    await runtime.run.acquire([runtime.channels.of_room("/", new_sid(runtime.run.node))])
    assert adapter.subscribed == before
