"""What a subscriber says was lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from redis.asyncio.connection import ConnectionPool

from fastapi_rooms import Outage
from fastapi_rooms.adapters.redis.links.source import NodeSource
from fastapi_rooms.adapters.redis.pubsub.subscriber import FLUSH, Subscriber
from fastapi_rooms.testing import eventually


class Receiver:
    def __init__(self) -> None:
        self.gaps: list[Outage] = []

    def received(self, channel: bytes, data: bytes) -> None: ...

    def gap(self, outage: Outage) -> None:
        self.gaps.append(outage)


def link(last_received: float) -> Any:
    return SimpleNamespace(write=lambda data: None, last_received=last_received)


async def test_what_was_live_between_two_losses_is_in_the_gap_and_what_was_asked_for_is_not() -> (
    None
):
    receiver = Receiver()
    source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
    subscriber = Subscriber(source, receiver, lambda: None, connect_timeout=1)

    def confirm(*channels: bytes) -> None:
        for channel in channels:
            subscriber.reply([b"subscribe", channel, 1])

    subscriber.want((b"old",))
    subscriber.link_up(link(1.0))
    confirm(b"old")
    subscriber.link_down("lost")
    subscriber.want((b"new", b"newer"))
    subscriber.link_up(link(2.0))
    confirm(b"new")
    assert subscriber.is_live(b"new")
    subscriber.link_down("lost again, before it was whole")
    subscriber.link_up(link(3.0))
    confirm(b"old", b"new", b"newer")
    assert subscriber.connected
    assert [gap.channels for gap in receiver.gaps] == [{b"old", b"new"}]
    assert receiver.gaps[0].since == 1.0
    subscriber.close()


async def test_no_turn_of_the_event_loop_asks_for_more_than_a_part_of_many_channels() -> None:
    receiver = Receiver()
    source = NodeSource(ConnectionPool.from_url("redis://nowhere.invalid"))
    subscriber = Subscriber(source, receiver, lambda: None, connect_timeout=1)
    channels = [b"channel %d" % number for number in range(3 * FLUSH + 1)]
    subscriber.want(channels)
    written: list[int] = []

    def write(data: bytes) -> None:
        written.append(data.count(b"channel "))

    subscriber.link_up(SimpleNamespace(write=write, last_received=1.0))  # type: ignore[arg-type]
    await eventually(lambda: sum(written) == len(channels))
    assert written == [FLUSH] * 3 + [1]
    for channel in channels:
        assert not subscriber.connected
        subscriber.reply([b"subscribe", channel, 1])
    assert subscriber.connected
    subscriber.unsubscribe(channels)
    await eventually(lambda: sum(written) == 2 * len(channels))
    assert max(written) == FLUSH
    subscriber.close()
