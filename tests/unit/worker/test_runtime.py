"""What the namespaces share: interest that is confirmed, messages out, and messages in."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from fastapi_rooms.adapters.base import AdapterHealth, Outage
from fastapi_rooms.cluster.commands import EmptyNamespace
from fastapi_rooms.cluster.heartbeat import HeartbeatSettings
from fastapi_rooms.core.names import Channels, new_sid
from fastapi_rooms.core.outbox import OutboxPolicy
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, MessageTooLarge, NotStarted
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.worker.drain import Drainable
from fastapi_rooms.worker.runtime import TURN_BYTES, Runtime
from fastapi_rooms.worker.settings import Settings
from tests.unit.support import OTHER_NODE, FakeAdapter, broadcast, channel_of, decoded, other_tasks

LOBBY, BAR = channel_of("lobby"), channel_of("bar")
HELLO = Payload.of_text("hello")


class _Heard(EmptyNamespace):
    """A namespace as far as the runtime knows it."""

    def __init__(self) -> None:
        self.messages: list[tuple[Target, str, bool]] = []
        self.outages: list[Outage] = []
        self.broken = False

    def deliver_here(self, target: Target, payload: Payload, *, volatile: bool) -> None:
        if self.broken:
            raise ValueError("broken")
        self.messages.append((target, payload.text, volatile))

    def gap(self, outage: Outage) -> None:
        self.outages.append(outage)

    async def close(self) -> None: ...

    def forget(self) -> None: ...

    def guests(self) -> list[Drainable]:
        return []


class _Lonely(FakeAdapter):
    """An adapter that knows whether it is alone."""

    is_alone = True


class _Halves(FakeAdapter):
    """An adapter that keeps order only within each of two shards."""

    def shard_of(self, channel: bytes) -> int:
        return len(channel) % 2


def _settings(*, join_timeout: float = 60, linger: float = 0, limit: int = 1024) -> Settings:
    return Settings(
        OutboxPolicy(),
        join_timeout,
        linger,
        limit,
        direct=True,
        request_timeout=5,
        pace=HeartbeatSettings(heartbeat=60, observer=False),
    )


@pytest.fixture
def adapter() -> FakeAdapter:
    return FakeAdapter()


@pytest.fixture
async def runtime(adapter: FakeAdapter) -> AsyncIterator[Runtime]:
    """One that runs, without a linger, and takes messages of up to a kilobyte."""
    runtime = Runtime(adapter, _settings())
    await runtime.start()
    yield runtime
    await runtime.close()


@pytest.fixture
def heard(runtime: Runtime) -> _Heard:
    """The namespace `/` of the runtime."""
    heard = _Heard()
    runtime.namespaces["/"] = heard
    return heard


def _ready(runtime: Runtime) -> bool:
    return runtime.health.ready


# From start to close.


async def test_what_needs_a_running_manager_says_so_when_there_is_none(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, _settings())
    with pytest.raises(NotStarted):
        _ = runtime.node
    with pytest.raises(NotStarted):
        runtime.check(HELLO)
    with pytest.raises(NotStarted):
        await runtime.acquire([LOBBY])
    with pytest.raises(NotStarted):
        await runtime.publish("/", Target(), HELLO)
    with pytest.raises(NotStarted):
        runtime.spend_turn(HELLO)
    assert (adapter.subscribed, adapter.published) == (set(), [])


async def test_every_start_is_a_new_worker_on_a_channel_of_its_own(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings())
    nodes = set()
    for _ in range(3):
        await runtime.start()
        nodes.add(runtime.node)
        assert adapter.subscribed == {Channels("rooms").of_node(runtime.node)}
        await runtime.close()
    assert len(nodes) == 3
    assert adapter.closes == 3


async def test_a_start_that_fails_leaves_it_not_started(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings())
    adapter.start_error = AdapterUnavailable("wrong password")
    with pytest.raises(AdapterUnavailable, match="wrong password"):
        await runtime.start()
    with pytest.raises(NotStarted):
        _ = runtime.node
    adapter.start_error = None
    await runtime.start()
    assert runtime.health.ready
    await runtime.close()


async def test_closing_leaves_no_timer_behind(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings(linger=0.001))
    await runtime.start()
    await runtime.acquire([LOBBY])
    runtime.release([LOBBY])
    await runtime.close()
    await runtime.start()
    adapter.subscribed.add(LOBBY)  # what a sweep of the closed runtime would take away
    await runtime.acquire([b"other"])
    runtime.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    await runtime.close()


async def test_health_is_the_adapters_and_ready_only_while_it_runs(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings())
    adapter.health = AdapterHealth(True, 1.0, 2.0, reconnects=3, buffered=4, dropped=5, forbidden=6)
    assert runtime.health[1:] == (True, 1.0, 2.0, 3, 4, 5, "", 6)
    assert _ready(runtime) is False
    await runtime.start()
    assert _ready(runtime) is True
    adapter.health = adapter.health._replace(connected=False)
    assert _ready(runtime) is False
    adapter.health = adapter.health._replace(connected=True)
    await runtime.close()
    adapter.health = adapter.health._replace(connected=True)
    assert _ready(runtime) is False


# Interest.


class _Knowing(FakeAdapter):
    """An adapter that knows what it has confirmed."""

    def is_live(self, channel: bytes) -> bool:
        return channel in self.subscribed


async def test_a_join_does_not_ask_for_what_is_live_already() -> None:
    adapter = _Knowing()
    runtime = Runtime(adapter, _settings(linger=60))
    await runtime.start()
    await runtime.acquire([LOBBY])
    adapter.hold_up()
    await runtime.acquire([LOBBY])
    joining = asyncio.ensure_future(runtime.acquire([LOBBY, BAR]))
    await eventually(lambda: adapter.waiting == 1, what="a join that waits for its new room")
    for _ in range(2):
        runtime.release([LOBBY])
    assert not joining.done()
    adapter.let_go()
    await joining
    assert {LOBBY, BAR} <= adapter.subscribed
    await runtime.close()


async def test_a_join_returns_when_the_adapter_has_confirmed(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    join = asyncio.ensure_future(runtime.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    assert not join.done()
    adapter.let_go()
    await join
    assert LOBBY in adapter.subscribed


async def test_a_channel_is_left_when_the_last_has_let_go(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    await runtime.acquire([LOBBY])
    await runtime.acquire([LOBBY])
    await runtime.acquire([b"other"])
    runtime.release([LOBBY])
    runtime.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    runtime.release([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_channel_taken_again_within_its_linger_is_never_left(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings(linger=0.01))
    await runtime.start()
    await runtime.acquire([LOBBY, b"other"])
    runtime.release([LOBBY, b"other"])
    await runtime.acquire([LOBBY])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed
    await runtime.close()


async def test_a_linger_that_ended_with_nothing_to_leave_is_followed_by_the_next(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, _settings(linger=0.01))
    await runtime.start()
    loop = asyncio.get_running_loop()
    await runtime.acquire([LOBBY])
    runtime.release([LOBBY])
    over = loop.time() + 0.02
    await runtime.acquire([LOBBY])
    await eventually(lambda: loop.time() > over)
    assert LOBBY in adapter.subscribed
    runtime.release([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)
    await runtime.close()


async def test_a_channel_lingers_for_as_long_as_it_was_told_to(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings(linger=0.05))
    await runtime.start()
    loop = asyncio.get_running_loop()
    await runtime.acquire([LOBBY])
    runtime.release([LOBBY])
    released = loop.time()
    await eventually(lambda: LOBBY not in adapter.subscribed)
    assert loop.time() - released >= 0.05
    await runtime.close()


async def test_a_join_that_is_not_confirmed_in_time_fails_and_holds_nothing(
    adapter: FakeAdapter,
) -> None:
    runtime = Runtime(adapter, _settings(join_timeout=0.01))
    await runtime.start()
    adapter.hold_up()
    with pytest.raises(AdapterUnavailable, match=r"in 0\.01 s\. Nothing was joined"):
        await runtime.acquire([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)
    await runtime.close()


async def test_a_join_that_is_cancelled_holds_nothing(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    join = asyncio.ensure_future(runtime.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    join.cancel()
    with pytest.raises(asyncio.CancelledError):
        await join
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_join_that_is_refused_holds_nothing(runtime: Runtime, adapter: FakeAdapter) -> None:
    adapter.subscribe_error = AdapterUnavailable("no permission")
    with pytest.raises(AdapterUnavailable, match="no permission"):
        await runtime.acquire([LOBBY])
    await eventually(lambda: LOBBY not in adapter.subscribed)


async def test_a_failed_join_leaves_the_channel_to_those_who_have_it(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    await runtime.acquire([LOBBY])
    adapter.subscribe_error = AdapterUnavailable("no")
    with pytest.raises(AdapterUnavailable):
        await runtime.acquire([LOBBY, b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed


@pytest.mark.parametrize("fails", [False, True])
async def test_a_join_of_an_earlier_start_takes_nothing_from_the_present_one(
    runtime: Runtime, adapter: FakeAdapter, fails: bool
) -> None:
    adapter.hold_up()
    late = asyncio.ensure_future(runtime.acquire([LOBBY]))
    await eventually(lambda: adapter.waiting)
    await runtime.close()
    await runtime.start()
    adapter.let_go()
    await runtime.acquire([LOBBY])
    adapter.subscribe_error = AdapterUnavailable("the manager was closed") if fails else None
    with pytest.raises(AdapterUnavailable if fails else NotStarted):
        await late
    adapter.subscribe_error = None
    await runtime.acquire([b"other"])
    runtime.release([b"other"])
    await eventually(lambda: b"other" not in adapter.subscribed)
    assert LOBBY in adapter.subscribed


async def test_letting_go_after_the_close_is_harmless(adapter: FakeAdapter) -> None:
    runtime = Runtime(adapter, _settings())
    await runtime.start()
    await runtime.acquire([LOBBY])
    await runtime.close()
    runtime.release([LOBBY])
    assert not other_tasks()


# Out.


@pytest.mark.parametrize(
    ("target", "channel"),
    [
        (Target(("lobby",)), LOBBY),
        (Target(("lobby",), ("ann",)), LOBBY),
        (Target(("lobby", "bar")), b"rooms#/#"),
        (Target(), b"rooms#/#"),
        (Target((f"{OTHER_NODE}.{'x' * 16}",)), f"rooms#{OTHER_NODE}#".encode()),
    ],
)
async def test_a_message_travels_on_the_one_channel_that_all_it_is_for_listen_to(
    runtime: Runtime, adapter: FakeAdapter, target: Target, channel: bytes
) -> None:
    await runtime.publish("/", target, HELLO)
    [(sent_on, data)] = adapter.published
    assert sent_on == channel
    sent = decoded(data)
    assert (sent.origin, sent.namespace, sent.target) == (runtime.node, "/", target)
    assert sent.payload.data == HELLO.data
    assert not sent.volatile


async def test_sequences_rise_across_channels_and_kinds(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    for room, volatile in (("a", False), ("b", True), ("a", True), ("c", False)):
        if volatile:
            runtime.publish_volatile("/", Target((room,)), HELLO)
        else:
            await runtime.publish("/", Target((room,)), HELLO)
    sent = [*adapter.published, *adapter.published_volatile]
    sequences = [decoded(data).sequence for _, data in sent]
    assert sorted(sequences) == list(range(min(sequences), min(sequences) + 4))
    assert sequences == [sequences[0], sequences[0] + 3, sequences[0] + 1, sequences[0] + 2]


async def test_a_publish_returns_when_the_adapter_has_accepted(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    publish = asyncio.ensure_future(runtime.publish("/", Target(), HELLO))
    await eventually(lambda: adapter.waiting)
    assert not publish.done()
    adapter.let_go()
    await publish


async def test_a_volatile_message_does_not_wait_for_the_adapter(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold_up()
    adapter.publish_error = AdapterUnavailable("no")
    runtime.publish_volatile("/", Target(), HELLO)
    [(channel, data)] = adapter.published_volatile
    assert channel == b"rooms#/#"
    assert decoded(data).volatile
    assert adapter.published == []


def test_a_message_over_the_limit_is_refused() -> None:
    runtime = Runtime(FakeAdapter(), _settings(limit=3))

    async def check() -> None:
        await runtime.start()
        runtime.check(Payload.of_text("abc"))
        with pytest.raises(MessageTooLarge) as raised:
            runtime.check(Payload.of_text("é€"))  # five bytes, though only two characters
        assert (raised.value.size, raised.value.limit) == (5, 3)
        await runtime.close()

    asyncio.run(check())


async def test_a_turn_has_its_share_of_messages_and_every_turn_is_a_new_one(
    runtime: Runtime,
) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    asyncio.get_running_loop().call_soon(turn)
    large = Payload.of_bytes(bytes(TURN_BYTES // 4))
    assert [runtime.spend_turn(large) for _ in range(5)] == [False, False, False, True, True]
    await asyncio.sleep(0)
    assert turns == 1
    assert [runtime.spend_turn(large) for _ in range(4)] == [False, False, False, True]


async def test_it_is_alone_while_the_adapter_knows_that_nobody_else_is_there(
    runtime: Runtime,
) -> None:
    assert not runtime.alone, "an adapter that cannot know"
    adapter = _Lonely()
    runtime = Runtime(adapter, _settings())
    assert runtime.alone
    adapter.is_alone = False
    assert not runtime.alone


# In.


async def test_another_workers_message_is_delivered(
    runtime: Runtime, adapter: FakeAdapter, heard: _Heard
) -> None:
    target = Target(("lobby",), ("ann",))
    runtime.received(LOBBY, codec.encode(broadcast(1, target, "hello", volatile=True)))
    assert heard.messages == [(target, "hello", True)]


async def test_a_workers_own_echo_is_dropped(
    runtime: Runtime, adapter: FakeAdapter, heard: _Heard
) -> None:
    await runtime.publish("/", Target(), HELLO)
    runtime.received(*adapter.published[0])
    assert heard.messages == []


async def test_a_message_that_comes_twice_is_delivered_once(
    runtime: Runtime, heard: _Heard
) -> None:
    for sequence in (1, 2, 1, 2, 3):
        runtime.received(LOBBY, codec.encode(broadcast(sequence, Target(), str(sequence))))
    assert [text for _, text, _ in heard.messages] == ["1", "2", "3"]


async def test_where_order_holds_within_a_shard_each_shard_counts_apart() -> None:
    runtime, heard = Runtime(_Halves(), _settings()), _Heard()
    runtime.namespaces["/"] = heard
    await runtime.start()
    for channel, sequence in ((b"a", 2), (b"bb", 1), (b"ccc", 2), (b"dd", 1), (b"ccc", 3)):
        runtime.received(channel, codec.encode(broadcast(sequence, Target(), f"{sequence}")))
    assert [text for _, text, _ in heard.messages] == ["2", "1", "3"]
    await runtime.close()


async def test_what_is_no_envelope_is_dropped_counted_and_logged_quietly(
    runtime: Runtime, heard: _Heard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
    for junk in (b"", b"junk", b"\x02" + codec.encode(broadcast(1, Target(), "x"))[1:]):
        runtime.received(LOBBY, junk)
    assert heard.messages == []
    assert runtime.health.dropped == 3
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


async def test_a_namespace_that_nobody_here_has_is_no_matter(
    runtime: Runtime, heard: _Heard, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.received(b"rooms#/other#", codec.encode(broadcast(1, Target(), "x", namespace="/o")))
    assert heard.messages == []
    assert runtime.health.dropped == 0
    assert not caplog.records


async def test_a_delivery_that_fails_is_logged_and_does_not_reach_the_adapter(
    runtime: Runtime, heard: _Heard, caplog: pytest.LogCaptureFixture
) -> None:
    heard.broken = True
    runtime.received(LOBBY, codec.encode(broadcast(1, Target(), "x")))
    heard.broken = False
    runtime.received(LOBBY, codec.encode(broadcast(2, Target(), "y")))
    assert [text for _, text, _ in heard.messages] == ["y"]
    assert "ValueError: broken" in caplog.text


async def test_what_arrives_after_the_close_is_dropped(adapter: FakeAdapter) -> None:
    runtime, heard = Runtime(adapter, _settings()), _Heard()
    runtime.namespaces["/"] = heard
    await runtime.start()
    await runtime.close()
    runtime.received(LOBBY, codec.encode(broadcast(1, Target(), "x")))
    assert heard.messages == []


async def test_a_gap_is_told_to_every_namespace(runtime: Runtime, heard: _Heard) -> None:
    other = runtime.namespaces["/other"] = _Heard()
    outage = Outage(1.0, 2.0, frozenset({LOBBY}))
    runtime.gap(outage)
    assert heard.outages == other.outages == [outage]


async def test_a_sid_made_here_costs_no_channel_of_its_own(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    before = set(adapter.subscribed)
    await runtime.acquire([runtime.channels.of_room("/", new_sid(runtime.node))])
    assert adapter.subscribed == before
