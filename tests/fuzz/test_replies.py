"""Whatever comes on a connection to Redis: understood or given up, and never an error of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import ConnectionPool

from fastapi_rooms import AdapterUnavailable, Outage
from fastapi_rooms.adapters.command_queue import ByteBudget
from fastapi_rooms.adapters.redis.links import link as link_module
from fastapi_rooms.adapters.redis.links.link import Link
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.pubsub.publisher import Publisher
from fastapi_rooms.adapters.redis.pubsub.subscriber import Subscriber
from tests.fuzz.strategies import CHANNELS, array, bulk, streams

SOURCE = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))


class Wire:
    """Both ends of what a link believes to be a connection: its own, and Redis'."""

    def __init__(self, on_reply: Callable[[Any], None]) -> None:
        self._writer = self.transport = self
        self.written = b""
        self.aborted = False
        connection: Any = self
        self.link = Link(connection, on_reply)

    # The link's end.

    def get_protocol(self) -> Any:
        return asyncio.Protocol()

    def set_protocol(self, protocol: object) -> None:
        pass

    def get_extra_info(self, name: str) -> object:
        return ("127.0.0.1", 6379)

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def __getattr__(self, name: str) -> Any:
        return None  # a connection of redis-py's has much that does not matter here

    # Redis' end.

    def say(self, data: bytes, cuts: list[int]) -> None:
        """Send bytes, in pieces. What a link raises here would be logged by the event loop."""
        at = 0
        for cut in sorted({c % (len(data) + 1) for c in cuts}):
            self.link.data_received(data[at:cut])
            at = cut
        self.link.data_received(data[at:])


class Strict:
    """A receiver that holds the adapter to its contract."""

    def __init__(self) -> None:
        self.count = 0
        self.kept = True

    def received(self, channel: bytes, data: bytes) -> None:
        self.kept &= type(channel) is type(data) is bytes
        self.count += 1

    def gap(self, outage: Outage) -> None:
        self.kept &= isinstance(outage, Outage)


cut_points = st.lists(st.integers(0, 1000), max_size=6)


@given(streams, cut_points, st.booleans())
def test_a_subscriber_understands_or_gives_the_connection_up(
    stream: bytes, cuts: list[int], confirmed: bool
) -> None:
    asyncio.run(subscriber_hears(stream, cuts, confirmed=confirmed))


async def subscriber_hears(stream: bytes, cuts: list[int], *, confirmed: bool) -> None:
    receiver = Strict()
    subscriber = Subscriber(SOURCE, receiver, lambda: None, connect_timeout=1)
    subscriber.want(CHANNELS)
    joining = asyncio.ensure_future(subscriber.subscribe(CHANNELS))
    await asyncio.sleep(0)
    wire = Wire(subscriber.reply)
    subscriber.link_up(wire.link)
    if confirmed:
        wire.say(confirmations(), [])
        assert subscriber.connected
        await joining
    wire.say(stream, cuts)
    await asyncio.sleep(0)  # it may have to ask for something again
    assert wire.aborted is wire.link.lost.done()
    assert len(wire.written) < 4096
    if wire.aborted:
        before = receiver.count
        wire.say(array([bulk(b"message"), bulk(CHANNELS[0]), bulk(b"too late")]), [])
        assert receiver.count == before
    # Whatever came: the next connection works.
    subscriber.link_down("given up")
    again = Wire(subscriber.reply)
    subscriber.link_up(again.link)
    again.say(confirmations(), [])
    await asyncio.gather(joining, return_exceptions=True)
    assert subscriber.connected
    before = receiver.count
    again.say(array([bulk(b"message"), bulk(CHANNELS[0]), bulk(b"hello")]), [])
    assert receiver.count == before + 1
    assert receiver.kept
    subscriber.close()


def confirmations() -> bytes:
    return b"".join(
        array([bulk(b"subscribe"), bulk(channel), b":%d\r\n" % number])
        for number, channel in enumerate(CHANNELS, 1)
    )


@given(streams, cut_points, st.integers(0, 5))
def test_a_publisher_answers_everyone_who_waits(
    stream: bytes, cuts: list[int], waiting: int
) -> None:
    asyncio.run(publisher_hears(stream, cuts, waiting))


async def publisher_hears(stream: bytes, cuts: list[int], waiting: int) -> None:
    budget = ByteBudget(10_000)
    publisher = Publisher(SOURCE, lambda: None, connect_timeout=1, timeout=60, budget=budget)
    wire = Wire(publisher.reply)
    publisher.link_up(wire.link)
    publishing = [
        asyncio.ensure_future(publisher.publish(b"channel", b"%d" % number))
        for number in range(waiting)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # now it is written
    assert wire.written.count(b"PUBLISH") == waiting
    wire.say(stream, cuts)
    assert budget.used >= 0
    # Whatever came: the next connection answers the rest, and what is published then.
    publisher.link_down("given up")
    again = Wire(publisher.reply)
    publisher.link_up(again.link)
    again.say(b":0\r\n" * again.written.count(b"PUBLISH"), [])
    results = await asyncio.gather(*publishing, return_exceptions=True)
    assert all(isinstance(result, int | AdapterUnavailable) for result in results)
    assert publisher.dropped == sum(isinstance(result, AdapterUnavailable) for result in results)
    assert budget.used == 0
    publisher.close()


@pytest.mark.parametrize(
    "start", [b"$%d\r\n" % 2**40, b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$%d\r\n" % 2**40, b"+"]
)
async def test_a_reply_without_an_end_is_not_waited_for(
    start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_REPLY_BYTES", 100_000)
    wire = Wire(lambda reply: None)
    wire.say(start, [])
    said = 0
    while not wire.aborted and said < 200_000:
        wire.say(b"x" * 10_000, [])
        said += 10_000
    assert said == 100_000
    assert "longer than 100000 bytes" in wire.link.lost.result()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"%1\r\n*0\r\n:1\r\n", id="a map with a list for a key"),
        pytest.param(b"*%d\r\n" % (2**32 - 1), id="an array that no memory holds"),
        pytest.param(b"*1\r\n" * 100_000, id="arrays in arrays"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="not Redis"),
        pytest.param(array([bulk(b"message"), bulk(b"x"), b"*-1\r\n"]), id="no message"),
        pytest.param(array([bulk(b"message"), b":1\r\n", bulk(b"x")]), id="no channel"),
        pytest.param(array([bulk(b"subscribe"), b"*0\r\n", b":1\r\n"]), id="no name"),
    ],
)
async def test_what_cannot_be_a_reply_to_us_ends_the_connection(data: bytes) -> None:
    subscriber = Subscriber(SOURCE, Strict(), lambda: None, connect_timeout=1)
    wire = Wire(subscriber.reply)
    subscriber.link_up(wire.link)
    wire.say(data, [])
    assert wire.aborted
    assert wire.link.lost.result().startswith("what came is not Redis' protocol: ")
    assert len(wire.link.lost.result()) < 300
