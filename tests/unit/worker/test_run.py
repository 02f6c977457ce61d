"""What a run publishes, and what it receives."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fastapi_rooms.adapters.base import Outage
from fastapi_rooms.cluster.commands import EmptyNamespace
from fastapi_rooms.core.payload import Payload
from fastapi_rooms.core.presence import UserEvent
from fastapi_rooms.core.target import Target
from fastapi_rooms.errors import AdapterUnavailable, MessageTooLarge
from fastapi_rooms.operators.dispatcher import ClusterRequest
from fastapi_rooms.operators.remote import COUNT as COUNTED
from fastapi_rooms.testing import eventually
from fastapi_rooms.wire import codec
from fastapi_rooms.wire.envelope import Broadcast, Reply, Request
from fastapi_rooms.wire.kept import InPlace
from fastapi_rooms.wire.verbs import Verb
from fastapi_rooms.worker.drain import Drainable
from fastapi_rooms.worker.run import TURN_BYTES
from fastapi_rooms.worker.runtime import Runtime
from tests.unit.support import (
    OTHER_NODE,
    FakeAdapter,
    ShardedAdapter,
    broadcast,
    channel_of,
    decoded,
    published,
)
from tests.unit.worker.support import run_settings

LOBBY, BAR = channel_of("lobby"), channel_of("bar")


HELLO = Payload.of_text("hello")


class RecordingPresences:
    """Who came and went in it."""

    has_handlers = True

    def __init__(self) -> None:
        self.events: list[tuple[str, UserEvent]] = []

    def received(self, room: str, event: UserEvent) -> None:
        self.events.append((room, event))


class RecordingNamespace(EmptyNamespace):
    """A namespace as far as the runtime knows it."""

    def __init__(self) -> None:
        self.messages: list[tuple[Target, str, bool]] = []
        self.outages: list[Outage] = []
        self.broken = False
        self.presences = RecordingPresences()

    def receive(self, target: Target, payload: Payload, *, volatile: bool) -> None:
        if self.broken:
            raise ValueError("broken")
        self.messages.append((target, payload.text, volatile))

    def received_in_place(self, placed: InPlace, message: Broadcast) -> None:
        self.messages.append((message.target, message.payload.text, False))

    def gap(self, outage: Outage) -> None:
        self.outages.append(outage)

    def leave_everyone(self) -> None: ...

    async def close(self, timeout: float) -> None: ...

    def forget(self) -> None: ...

    def drainables(self) -> list[Drainable]:
        return []


class _AloneAdapter(FakeAdapter):
    """An adapter that knows whether it is alone."""

    is_alone = True


@pytest.fixture
def namespace(runtime: Runtime) -> RecordingNamespace:
    """The namespace `/` of the runtime."""
    namespace = RecordingNamespace()
    runtime.namespaces["/"] = namespace
    return namespace


# Out.


@pytest.mark.parametrize(
    ("target", "channel"),
    [
        (Target(("lobby",)), LOBBY),
        (Target(("lobby",), ("ann",)), LOBBY),
        (Target(("lobby", "bar")), b"rooms#/#"),
        (Target(), b"rooms#/#"),
        (Target((f"{OTHER_NODE}.{'x' * 16}",)), f"rooms#{OTHER_NODE}.#".encode()),
    ],
)
async def test_a_message_travels_on_the_one_channel_that_all_it_is_for_listen_to(
    runtime: Runtime, adapter: FakeAdapter, target: Target, channel: bytes
) -> None:
    await published(runtime.run.publish("/", target, HELLO, volatile=False))
    [(sent_on, data)] = adapter.published
    assert sent_on == channel
    sent = decoded(data)
    assert (sent.origin, sent.namespace, sent.target) == (runtime.run.node, "/", target)
    assert sent.payload.data == HELLO.data
    assert not sent.volatile


async def test_sequences_rise_across_channels_and_kinds(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    for room, volatile in (("a", False), ("b", True), ("a", True), ("c", False)):
        if volatile:
            runtime.run.publish("/", Target((room,)), HELLO, volatile=True)
        else:
            await published(runtime.run.publish("/", Target((room,)), HELLO, volatile=False))
    sent = [*adapter.published, *adapter.published_volatile]
    sequences = [decoded(data).sequence for _, data in sent]
    assert sorted(sequences) == list(range(min(sequences), min(sequences) + 4))
    assert sequences == [sequences[0], sequences[0] + 3, sequences[0] + 1, sequences[0] + 2]


async def test_a_publish_returns_when_the_adapter_has_accepted(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold()
    publish = asyncio.ensure_future(
        published(runtime.run.publish("/", Target(), HELLO, volatile=False))
    )
    await eventually(lambda: adapter.waiting)
    assert not publish.done()
    adapter.release()
    await publish


async def test_a_volatile_message_does_not_wait_for_the_adapter(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold()
    adapter.publish_error = AdapterUnavailable("no")
    runtime.run.publish("/", Target(), HELLO, volatile=True)
    [(channel, data)] = adapter.published_volatile
    assert channel == b"rooms#/#"
    assert decoded(data).volatile
    assert adapter.published == []


def test_a_message_over_the_limit_is_refused() -> None:
    runtime = Runtime(FakeAdapter(), run_settings(limit=3))

    async def check() -> None:
        await runtime.start()
        runtime.run.check_size(len("abc"))
        with pytest.raises(MessageTooLarge) as raised:
            runtime.run.check_size(len(Payload.of_text("é€").data))  # of two characters
        assert (raised.value.size, raised.value.limit) == (5, 3)
        await runtime.stop()

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
    large = TURN_BYTES // 4
    assert [runtime.run.spend_turn(large) for _ in range(5)] == [False, False, False, True, True]
    await asyncio.sleep(0)
    assert turns == 1
    assert [runtime.run.spend_turn(large) for _ in range(4)] == [False, False, False, True]


async def test_nothing_is_published_while_the_adapter_knows_that_nobody_else_is_there() -> None:
    adapter = _AloneAdapter()
    runtime = Runtime(adapter, run_settings())
    await runtime.start()
    for volatile in (True, False):
        assert runtime.run.publish("/", Target(), HELLO, volatile=volatile) is None
    assert (adapter.published, adapter.published_volatile) == ([], [])
    adapter.is_alone = False
    await published(runtime.run.publish("/", Target(), HELLO, volatile=False))
    assert len(adapter.published) == 1
    await runtime.stop()


# In.


async def test_another_workers_message_is_delivered(
    runtime: Runtime, adapter: FakeAdapter, namespace: RecordingNamespace
) -> None:
    target = Target(("lobby",), ("ann",))
    runtime.run.received(LOBBY, codec.encode(broadcast(1, target, "hello", volatile=True)))
    assert namespace.messages == [(target, "hello", True)]


async def test_a_workers_own_echo_is_dropped(
    runtime: Runtime, adapter: FakeAdapter, namespace: RecordingNamespace
) -> None:
    await published(runtime.run.publish("/", Target(), HELLO, volatile=False))
    runtime.run.received(*adapter.published[0])
    assert namespace.messages == []


async def test_a_message_that_comes_twice_is_delivered_once(
    runtime: Runtime, namespace: RecordingNamespace
) -> None:
    for sequence in (1, 2, 1, 2, 3):
        runtime.run.received(LOBBY, codec.encode(broadcast(sequence, Target(), str(sequence))))
    assert [text for _, text, _ in namespace.messages] == ["1", "2", "3"]


async def test_where_order_holds_within_a_shard_each_shard_counts_apart() -> None:
    runtime, namespace = Runtime(ShardedAdapter(), run_settings()), RecordingNamespace()
    runtime.namespaces["/"] = namespace
    await runtime.start()
    for channel, sequence in ((b"a", 2), (b"bb", 1), (b"ccc", 2), (b"dd", 1), (b"ccc", 3)):
        runtime.run.received(channel, codec.encode(broadcast(sequence, Target(), f"{sequence}")))
    assert [text for _, text, _ in namespace.messages] == ["2", "1", "3"]
    await runtime.stop()


async def test_what_is_no_envelope_is_dropped_counted_and_logged_quietly(
    runtime: Runtime, namespace: RecordingNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastapi_rooms")
    for junk in (b"", b"junk", b"\x02" + codec.encode(broadcast(1, Target(), "x"))[1:]):
        runtime.run.received(LOBBY, junk)
    assert namespace.messages == []
    assert runtime.health.dropped == 3
    assert {record.levelno for record in caplog.records} == {logging.DEBUG}


async def test_a_message_for_an_unknown_namespace_is_ignored(
    runtime: Runtime, namespace: RecordingNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.run.received(
        b"rooms#/other#", codec.encode(broadcast(1, Target(), "x", namespace="/o"))
    )
    assert namespace.messages == []
    assert runtime.health.dropped == 0
    assert not caplog.records


async def test_a_delivery_that_fails_is_logged_and_does_not_reach_the_adapter(
    runtime: Runtime, namespace: RecordingNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.broken = True
    runtime.run.received(LOBBY, codec.encode(broadcast(1, Target(), "x")))
    namespace.broken = False
    runtime.run.received(LOBBY, codec.encode(broadcast(2, Target(), "y")))
    assert [text for _, text, _ in namespace.messages] == ["y"]
    assert "ValueError: broken" in caplog.text


async def test_what_arrives_after_the_close_is_dropped(adapter: FakeAdapter) -> None:
    runtime, namespace = Runtime(adapter, run_settings()), RecordingNamespace()
    runtime.namespaces["/"] = namespace
    await runtime.start()
    run = runtime.run
    await runtime.stop()
    run.received(LOBBY, codec.encode(broadcast(1, Target(), "x")))
    assert namespace.messages == []


async def test_a_gap_is_told_to_every_namespace(
    runtime: Runtime, namespace: RecordingNamespace
) -> None:
    other = runtime.namespaces["/other"] = RecordingNamespace()
    outage = Outage(1.0, 2.0, frozenset({LOBBY}))
    runtime.run.gap(outage)
    assert namespace.outages == other.outages == [outage]


async def test_a_reply_that_fits_no_request_is_counted_as_malformed(
    runtime: Runtime, adapter: FakeAdapter
) -> None:
    adapter.hold()
    request = ClusterRequest(Verb.COUNT, Target(), {}, here=False, node=OTHER_NODE)
    asked = asyncio.ensure_future(runtime.run.cluster.request("/", request, COUNTED, 60))
    await eventually(lambda: adapter.waiting)
    [(_, data)] = adapter.published
    sent = codec.decode(data)
    assert isinstance(sent, Request)
    reply = Reply("e" * 16, 1, sent.id, 0, last=True, refused=False, data=b"1")
    runtime.run.received(LOBBY, codec.encode(reply))
    assert runtime.health.dropped == 1
    adapter.release()
    assert await asked == 0
